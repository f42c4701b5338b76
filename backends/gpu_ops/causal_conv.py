"""`causal_conv`: each column filtered over the last tokens of its sequence."""

from jitllm.backends._gpu.dispatch import Place
from jitllm.backends._gpu.lower import LANES, Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the convolution."""
    attrs, x, y = node.attrs, lowering.place(node.inputs[0]), lowering.new(node.outputs[0])
    taps, bias = lowering.constant(attrs["taps"]), lowering.constant(attrs["bias"])
    width, (states, slot_bytes) = node.outputs[0].width, lowering.state(node)
    lowering.emit(
        "causal_conv", [Place("run", 0, 0), x, y, taps, bias, states],
        [x.stride, y.stride, width, slot_bytes], [y, states], groups=-(-width // LANES), rows="T",
        constants=(len(attrs["taps"]), bias is not None, attrs["act"] == "silu"),
    )  # fmt: skip
