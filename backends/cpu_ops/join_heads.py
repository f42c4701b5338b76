"""`join_heads` as two ops: the first parts of the heads, then the second."""

from jitllm.backends._cpu.lower import ROW_WORDS, Lowering
from jitllm.backends._cpu.plan import Buffer
from jitllm.backends.cpu_ops.head_columns import COPY_HEADS
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the copies."""
    a, b = node.inputs
    n_heads, out = node.attrs["n_heads"], node.outputs[0]
    y, size, first = lowering.new(out), out.width // n_heads, a.width // n_heads
    second = Buffer(y.start + 4 * first, y.stride, y.size - 4 * first)
    for value, target, n in ((a, y, first), (b, second, size - first)):
        x = lowering.buffer(value)
        is_shared = value is b and node.attrs["shared"]
        lowering.planner.emit(
            COPY_HEADS, [x], [y], cost=n_heads * n, rows=ROW_WORDS[out.rows], x=x, ldx=x.stride,
            x_step=0 if is_shared else 4 * n, y=target, ldy=y.stride, y_step=4 * size,
            n_heads=n_heads, n=n,
        )  # fmt: skip
