"""Gates of residual streams as an op."""

import numpy as np

from jitllm.backends._cpu.lower import ROW_WORDS, Lowering
from jitllm.backends._cpu.threads import aligned
from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels import abi

STREAM_GATES = abi.Op(
    "streams", "gates",
    ("rows", "x", "ldx", "y", "ldy", "width", "n_streams", "scale", "base", "eps:f32",
     "magnitude:f32", "post_eps:f32", "iterations"),
)  # fmt: skip


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    (value,), attrs = node.inputs, node.attrs
    x, y = lowering.buffer(value), lowering.new(node.outputs[0])
    sizes = ("n_streams", "eps", "magnitude", "post_eps", "iterations")
    lowering.planner.emit(
        STREAM_GATES, [x], [y], cost=40 * value.width, rows=ROW_WORDS[value.rows], x=x,
        ldx=x.stride, y=y, ldy=y.stride, width=value.width,
        scale=_kept(lowering, attrs["scale"]), base=_kept(lowering, attrs["base"]),
        **{name: attrs[name] for name in sizes},
    )  # fmt: skip


def _kept(lowering: Lowering, values: Floats) -> int:
    """Return the address of a copy that lives as long as the plan."""
    kept = aligned(4 * len(values)).view(np.float32)
    kept[:] = values
    lowering.constants.append(kept)
    return int(kept.ctypes.data)
