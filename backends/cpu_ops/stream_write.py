"""What goes back to residual streams as an op."""

from jitllm.backends._cpu.lower import ROW_WORDS, Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

STREAM_WRITE = abi.Op(
    "streams", "write",
    ("rows", "x", "ldx", "streams", "lds", "gates", "ldg", "y", "ldy", "width", "n_streams",
     "mixes"),
)  # fmt: skip


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    x, streams, gates = (lowering.buffer(value) for value in node.inputs)
    y, n_streams = lowering.new(node.outputs[0]), node.attrs["n_streams"]
    value, _, weights = node.inputs
    lowering.planner.emit(
        STREAM_WRITE, [x, streams, gates], [y], cost=2 * n_streams * n_streams * value.width,
        rows=ROW_WORDS[value.rows], x=x, ldx=x.stride, streams=streams, lds=streams.stride,
        gates=gates, ldg=gates.stride, y=y, ldy=y.stride, width=value.width, n_streams=n_streams,
        mixes=int(weights.width > 2 * n_streams),
    )  # fmt: skip
