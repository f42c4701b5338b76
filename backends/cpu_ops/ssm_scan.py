"""`ssm_scan` as an op."""

from jitllm.backends._cpu.constants import constant
from jitllm.backends._cpu.lower import Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

# The scan of `llm/graph/words/ssm.py`: x, y [T, H*P], b, c [T, G*N], step [T, H] or 0 for steps of
# 1; a, d, step_bias float32 [H], the last two or 0; the state float32 [H, N, P].
SSM_SCAN = abi.Op(
    "ssm_scan",
    "ssm_scan",
    (
        "x", "ldx", "b", "ldb", "c", "ldc", "step", "lds", "y", "ldy", "n_heads", "head_dim",
        "n_groups", "size", "a", "d", "step_bias", "states", "slot_bytes",
    ),
)  # fmt: skip


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the scan."""
    attrs, values = node.attrs, node.inputs
    x, b, c, *rest = (lowering.buffer(value) for value in values)
    y, width = lowering.new(node.outputs[0]), values[0].width
    size, step = values[1].width // attrs["n_groups"], rest[0] if rest else None
    a, d, shift = (constant(lowering, attrs[name])[0] for name in ("a", "d", "step_bias"))
    lowering.planner.emit(
        SSM_SCAN, [x, b, c, *rest], [y], cost=4 * size * width, x=x, ldx=x.stride, b=b,
        ldb=b.stride, c=c, ldc=c.stride, step=step or 0, lds=step.stride if step else 0, y=y,
        ldy=y.stride, n_heads=attrs["n_heads"], head_dim=width // attrs["n_heads"],
        n_groups=attrs["n_groups"], size=size, a=a, d=d, step_bias=shift,
        **lowering.state_words(node),
    )  # fmt: skip
