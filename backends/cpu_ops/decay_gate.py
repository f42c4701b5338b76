"""`decay_gate` as an op."""

import numpy as np

from jitllm.backends._cpu.lower import ROW_WORDS, Lowering
from jitllm.backends._cpu.threads import aligned
from jitllm.backends.ir import Node
from jitllm.kernels import abi

# y = exp(rate * act(x + shift)) with the factory parameter form "softplus" or "exp", or, for
# "sigmoid", y = exp(bound * sigmoid(rate * (x + shift))); shift and rate are float32 [width padded
# to 16].
DECAY_GATE = abi.Op(
    "decay_gate", "decay_gate",
    ("rows", "x", "ldx", "shift", "rate", "y", "ldy", "width", "bound:f32"),
)  # fmt: skip


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op, with the rate of every column."""
    (value,), rate, bound = node.inputs, node.attrs["rate"], node.attrs["bound"]
    x, y = lowering.buffer(value), lowering.new(node.outputs[0])
    form = node.attrs["act"] if bound is None else "sigmoid"
    rates = aligned(y.stride).view(np.float32)
    rates[: value.width] = np.repeat(rate, value.width // len(rate))
    lowering.constants.append(rates)
    lowering.planner.emit(
        DECAY_GATE, [x], [y], cost=40 * value.width, params={"form": form},
        rows=ROW_WORDS[value.rows], x=x, ldx=x.stride, shift=lowering.vector(node.weights[0]),
        rate=rates.ctypes.data, y=y, ldy=y.stride, width=value.width, bound=bound or 0.0,
    )  # fmt: skip
