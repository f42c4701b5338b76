"""`gaussian_top` as an op."""

from jitllm.backends._cpu.lower import ROW_WORDS, Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

# y = max(x - mean - deviations * std, 0) by rows.
GAUSSIAN_TOP = abi.Op(
    "gaussian_top", "gaussian_top", ("rows", "x", "ldx", "y", "ldy", "width", "deviations:f32")
)


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    (value,) = node.inputs
    x, y = lowering.buffer(value), lowering.new(node.outputs[0])
    lowering.planner.emit(
        GAUSSIAN_TOP, [x], [y], cost=8 * value.width, rows=ROW_WORDS[value.rows], x=x,
        ldx=x.stride, y=y, ldy=y.stride, width=value.width, **node.attrs,
    )  # fmt: skip
