"""Rope at an earlier position as an op."""

import numpy as np

from jitllm.backends._cpu.lower import Lowering
from jitllm.backends._cpu.threads import aligned
from jitllm.backends.ir import Node
from jitllm.kernels import abi

ROPE_BEHIND = abi.Op(
    "compress", "rope_behind",
    (
        "x", "ldx", "y", "ldy", "n_heads", "size", "start", "n_rot", "frequencies", "behind",
        "magnitude:f32",
    ),
)  # fmt: skip


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    (value,), attrs = node.inputs, node.attrs
    x, y = lowering.buffer(value), lowering.new(node.outputs[0])
    frequencies = aligned(4 * len(attrs["frequencies"])).view(np.float32)
    frequencies[:] = attrs["frequencies"]
    lowering.constants.append(frequencies)
    lowering.planner.emit(
        ROPE_BEHIND, [x], [y], cost=6 * value.width, params={"kind": attrs["kind"]}, x=x,
        ldx=x.stride, y=y, ldy=y.stride, n_heads=attrs["n_heads"],
        size=value.width // attrs["n_heads"], start=attrs["start"], n_rot=2 * len(frequencies),
        frequencies=frequencies.ctypes.data, behind=attrs["behind"], magnitude=attrs["magnitude"],
    )  # fmt: skip
