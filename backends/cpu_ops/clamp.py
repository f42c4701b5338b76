"""`clamp` as an op."""

from jitllm.backends._cpu.lower import ROW_WORDS, Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

# y = min(max(x, -bound), bound).
CLAMP = abi.Op("clamp", "clamp", ("rows", "x", "ldx", "y", "ldy", "width", "bound:f32"))


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    (value,) = node.inputs
    x, y = lowering.buffer(value), lowering.new(node.outputs[0])
    lowering.planner.emit(
        CLAMP, [x], [y], cost=2 * value.width, rows=ROW_WORDS[value.rows], x=x, ldx=x.stride,
        y=y, ldy=y.stride, width=value.width, bound=node.attrs["bound"],
    )  # fmt: skip
