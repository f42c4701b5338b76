"""`rope_behind`: rope at an earlier position."""

from jitllm.backends._gpu.lower import LANES, Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the rotation; angles are computed by the kernel."""
    (value,), attrs = node.inputs, node.attrs
    x, y = lowering.place(value), lowering.new(node.outputs[0])
    frequencies = lowering.constant(attrs["frequencies"])
    lowering.emit(
        "rope_behind", [lowering.count("T"), lowering.positions, x, frequencies, y],
        [x.stride, y.stride, value.width, value.width // attrs["n_heads"], attrs["start"],
         2 * len(attrs["frequencies"]), attrs["behind"], float(attrs["magnitude"])],
        [y], groups=-(-value.width // LANES), rows="T", constants=(attrs["kind"] == "neox",),
    )  # fmt: skip
