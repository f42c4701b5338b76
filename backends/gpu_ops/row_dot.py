"""`row_dot`: the product of each row with one vector."""

from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the product."""
    (x,), y = node.inputs, lowering.new(node.outputs[0])
    lowering.dot(node.weights[0], lowering.place(x), y, x.width, x.rows)
