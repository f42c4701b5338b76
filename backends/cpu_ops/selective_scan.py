"""`selective_scan` as an op."""

from jitllm.backends._cpu.constants import constant
from jitllm.backends._cpu.lower import Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi
from jitllm.kernels.reference import ssm as reference_ssm

# The scan of `llm/graph/words/ssm.py`: x, step, y [T, width], b, c [T, size]; a and the
# state are float32 [blocks, size, 16], block j being columns 16 j to 16 j + 15; d float32 [width].
SELECTIVE_SCAN = abi.Op(
    "selective_scan",
    "selective_scan",
    (
        "x", "ldx", "b", "ldb", "c", "ldc", "step", "lds", "y", "ldy", "width", "size", "a", "d",
        "states", "slot_bytes",
    ),
)  # fmt: skip


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the scan."""
    x, b, c, step = (lowering.buffer(value) for value in node.inputs)
    y, width, size = lowering.new(node.outputs[0]), node.outputs[0].width, node.inputs[1].width
    a = reference_ssm.in_blocks(node.attrs["a"]).reshape(-1, 16)
    lowering.planner.emit(
        SELECTIVE_SCAN, [x, b, c, step], [y], cost=25 * size * width, x=x, ldx=x.stride, b=b,
        ldb=b.stride, c=c, ldc=c.stride, step=step, lds=step.stride, y=y, ldy=y.stride, width=width,
        size=size, a=constant(lowering, a)[0], d=constant(lowering, node.attrs["d"])[0],
        **lowering.state_words(node),
    )  # fmt: skip
