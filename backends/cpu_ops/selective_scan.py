"""`selective_scan` as an op."""

from jitllm.backends._cpu_constants import constant
from jitllm.backends._cpu_lower import Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

# The scan of `llm/graph/words/ssm.py`: x, step, y [T, width], b, c [T, size]; a is float32 [size,
# width] with rows lda bytes apart, d float32 [width], the state float32 [size, width].
SELECTIVE_SCAN = abi.Op(
    "selective_scan",
    "selective_scan",
    (
        "x", "ldx", "b", "ldb", "c", "ldc", "step", "lds", "y", "ldy", "width", "size", "a", "lda",
        "d", "states", "slot_bytes",
    ),
)  # fmt: skip


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the scan."""
    x, b, c, step = (lowering.buffer(value) for value in node.inputs)
    y, width, size = lowering.new(node.outputs[0]), node.outputs[0].width, node.inputs[1].width
    a, lda = constant(lowering, node.attrs["a"])
    lowering.planner.emit(
        SELECTIVE_SCAN, [x, b, c, step], [y], cost=25 * size * width, x=x, ldx=x.stride, b=b,
        ldb=b.stride, c=c, ldc=c.stride, step=step, lds=step.stride, y=y, ldy=y.stride, width=width,
        size=size, a=a, lda=lda, d=constant(lowering, node.attrs["d"])[0],
        **lowering.state_words(node),
    )  # fmt: skip
