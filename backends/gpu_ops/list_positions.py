"""`list_positions`: positions that need no choice."""

from jitllm.backends._gpu.lower import LANES, Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    out, y = node.outputs[0], lowering.new(node.outputs[0])
    lowering.emit(
        "list_positions", [lowering.count("T"), lowering.positions, y],
        [y.stride, out.width, node.attrs.get("window", 0), node.attrs.get("stride", 1)], [y],
        groups=-(-out.width // LANES), rows="T",
    )  # fmt: skip
