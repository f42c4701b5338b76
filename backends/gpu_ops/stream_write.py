"""`stream_write`: what goes back to residual streams."""

from jitllm.backends._gpu.lower import LANES, Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op; gates that are more than two for each stream mix them."""
    (value, _, weights), n_streams = node.inputs, node.attrs["n_streams"]
    x, streams, gates = (lowering.place(v) for v in node.inputs)
    y = lowering.new(node.outputs[0])
    lowering.emit(
        "stream_write", [lowering.count(value.rows), x, streams, gates, y],
        [x.stride, streams.stride, gates.stride, y.stride, value.width], [y],
        groups=-(-n_streams * value.width // LANES), rows=value.rows,
        constants=(n_streams, weights.width > 2 * n_streams),
    )  # fmt: skip
