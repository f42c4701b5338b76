"""`match_rms`: parts of a row, as large as those of another value."""

from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op: a workgroup for a part."""
    value, other = node.inputs
    x, like, y = lowering.place(value), lowering.place(other), lowering.new(node.outputs[0])
    lowering.emit(
        "match_rms", [lowering.count(value.rows), x, like, y],
        [x.stride, like.stride, y.stride, other.width, float(node.attrs["floor"])], [y],
        groups=value.width // other.width, rows=value.rows,
    )  # fmt: skip
