"""`join_heads`: heads of one value, each followed by its part of another."""

from jitllm.backends._gpu.core import copy_heads
from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit two copies."""
    (a, b), n_heads, out = node.inputs, node.attrs["n_heads"], node.outputs[0]
    y, size, first = lowering.new(out), out.width // n_heads, a.width // n_heads
    second = size - first
    copy_heads(
        lowering, lowering.place(a), y, out.rows, n_heads=n_heads, n=first, steps=(first, size)
    )
    copy_heads(
        lowering, lowering.place(b), y.columns(first), out.rows, n_heads=n_heads, n=second,
        steps=(0 if node.attrs["shared"] else second, size),
    )  # fmt: skip
