"""`head_columns`: some columns of every head."""

from jitllm.backends._gpu.core import copy_heads
from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the copy."""
    (x,), n_heads, start = node.inputs, node.attrs["n_heads"], node.attrs["start"]
    n = node.attrs["stop"] - start
    source, y = lowering.place(x).columns(start), lowering.new(node.outputs[0])
    steps = x.width // n_heads, n
    copy_heads(lowering, source, y, x.rows, n_heads=n_heads, n=n, steps=steps)
