"""`whole_blocks`: positions of chosen blocks."""

from jitllm.backends._gpu.lower import LANES, Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    (value,), out = node.inputs, node.outputs[0]
    x, y = lowering.place(value), lowering.new(out)
    lowering.emit(
        "whole_blocks", [lowering.count("T"), lowering.positions, x, y],
        [x.stride, y.stride, value.width, node.attrs["block"]], [y],
        groups=-(-out.width // LANES), rows="T",
    )  # fmt: skip
