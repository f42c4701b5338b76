"""`xielu` as an op."""

from jitllm.backends._cpu.lower import ROW_WORDS, Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

# y = alpha_p x^2 + beta x where x > 0, else alpha_n (e^min(x, eps) - 1 - x) + beta x; eps <= 0.
XIELU = abi.Op(
    "xielu",
    "xielu",
    ("rows", "x", "ldx", "y", "ldy", "width", "alpha_p:f32", "alpha_n:f32", "beta:f32", "eps:f32"),
)


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    (value,) = node.inputs
    x, y = lowering.buffer(value), lowering.new(node.outputs[0])
    lowering.planner.emit(
        XIELU, [x], [y], cost=25 * value.width, rows=ROW_WORDS[value.rows], x=x, ldx=x.stride,
        y=y, ldy=y.stride, width=value.width, **node.attrs,
    )  # fmt: skip
