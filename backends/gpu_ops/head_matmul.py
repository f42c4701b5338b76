"""`head_matmul`: a matrix for each head."""

from dataclasses import replace

from jitllm.backends._gpu_lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the product."""
    (x,), n_heads, out = node.inputs, node.attrs["n_heads"], node.outputs[0]
    w = lowering.weights[node.weights[0]]
    own = replace(w, shape=(n_heads, out.width // n_heads, w.k))
    lowering.product(own, lowering.place(x), lowering.new(out), x.rows, heads=n_heads)
