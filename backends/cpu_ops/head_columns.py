"""`head_columns` as an op."""

from jitllm.backends._cpu.lower import ROW_WORDS, Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

# y[t, h, 0:n] = x[t, h, 0:n]; heads lie x_step and y_step bytes apart.
COPY_HEADS = abi.Op(
    "heads", "copy_heads", ("rows", "x", "ldx", "x_step", "y", "ldy", "y_step", "n_heads", "n")
)


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the copy."""
    (value,), attrs = node.inputs, node.attrs
    n_heads, n = attrs["n_heads"], attrs["stop"] - attrs["start"]
    x, y = lowering.buffer(value), lowering.new(node.outputs[0])
    part = type(x)(x.start + 4 * attrs["start"], x.stride, x.size - 4 * attrs["start"])
    lowering.planner.emit(
        COPY_HEADS, [x], [y], cost=n_heads * n, rows=ROW_WORDS[value.rows], x=part, ldx=x.stride,
        x_step=4 * (value.width // n_heads), y=y, ldy=y.stride, y_step=4 * n, n_heads=n_heads, n=n,
    )  # fmt: skip
