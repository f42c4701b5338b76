"""`stream_read`: the sum of residual streams by their gates."""

from jitllm.backends._gpu.lower import LANES, Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the sum."""
    x, gates = (lowering.place(value) for value in node.inputs)
    out, y = node.outputs[0], lowering.new(node.outputs[0])
    lowering.emit(
        "stream_read", [lowering.count(out.rows), x, gates, y],
        [x.stride, gates.stride, y.stride, out.width], [y], groups=-(-out.width // LANES),
        rows=out.rows, constants=(node.attrs["n_streams"],),
    )  # fmt: skip
