"""`row_dot`: the product of each row with one vector."""

from jitllm.backends._gpu_lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit it as a matrix of one row."""
    (x,), y = node.inputs, lowering.new(node.outputs[0])
    row = lowering.vector(node.weights[0])
    lowering.multiply("F32", row, (1, x.width), lowering.place(x), y, x.rows)
