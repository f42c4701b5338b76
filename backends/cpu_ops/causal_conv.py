"""`causal_conv` as an op."""

from jitllm.backends._cpu.constants import constant
from jitllm.backends._cpu.lower import Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

# y[t] = act(sum over j of w[j] * x[t - (K - 1) + j] + bias) by columns; w is float32 [K, width],
# its rows ldw bytes apart, bias float32 [width] or 0, the state float32 [K - 1, width]. Factory
# parameters act ("silu" or "") and taps (K).
CAUSAL_CONV = abi.Op(
    "causal_conv",
    "causal_conv",
    ("x", "ldx", "y", "ldy", "width", "w", "ldw", "bias", "states", "slot_bytes"),
)


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the convolution."""
    taps, (w, ldw) = len(node.attrs["taps"]), constant(lowering, node.attrs["taps"])
    x, y = lowering.buffer(node.inputs[0]), lowering.new(node.outputs[0])
    width = node.outputs[0].width
    lowering.planner.emit(
        CAUSAL_CONV, [x], [y], cost=(4 * taps + 20) * width,
        params={"act": node.attrs["act"], "taps": taps}, x=x, ldx=x.stride, y=y, ldy=y.stride,
        width=width, w=w, ldw=ldw, bias=constant(lowering, node.attrs["bias"])[0],
        **lowering.state_words(node),
    )  # fmt: skip
