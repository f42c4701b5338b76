"""`match_rms` as an op."""

from jitllm.backends._cpu.lower import ROW_WORDS, Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

# y = x * rms(like) / rms(x) over each `group` columns, the mean square of x at least `floor`.
MATCH_RMS = abi.Op(
    "altup", "match_rms",
    ("rows", "x", "ldx", "like", "ldl", "y", "ldy", "width", "group", "floor:f32"),
)  # fmt: skip


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    value, model = node.inputs
    x, like, y = lowering.buffer(value), lowering.buffer(model), lowering.new(node.outputs[0])
    lowering.planner.emit(
        MATCH_RMS, [x, like], [y], cost=6 * value.width, rows=ROW_WORDS[value.rows], x=x,
        ldx=x.stride, like=like, ldl=like.stride, y=y, ldy=y.stride, width=value.width,
        group=model.width, **node.attrs,
    )  # fmt: skip
