"""The sum of residual streams by their gates as an op."""

from jitllm.backends._cpu.lower import ROW_WORDS, Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

STREAM_READ = abi.Op(
    "streams", "read", ("rows", "x", "ldx", "gates", "ldg", "y", "ldy", "width", "n_streams")
)


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    x, gates = (lowering.buffer(value) for value in node.inputs)
    y, out, n_streams = lowering.new(node.outputs[0]), node.outputs[0], node.attrs["n_streams"]
    lowering.planner.emit(
        STREAM_READ, [x, gates], [y], cost=2 * n_streams * out.width, rows=ROW_WORDS[out.rows],
        x=x, ldx=x.stride, gates=gates, ldg=gates.stride, y=y, ldy=y.stride, width=out.width,
        n_streams=n_streams,
    )  # fmt: skip
