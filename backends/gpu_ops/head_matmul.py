"""`head_matmul`: a matrix for each head."""

from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the product."""
    (x,), out, w = node.inputs, node.outputs[0], lowering.weights[node.weights[0]]
    source, y = lowering.place(x), lowering.new(out)
    lowering.product(w, source, y, x.rows, heads=node.attrs["n_heads"])
