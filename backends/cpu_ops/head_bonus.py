"""`head_bonus` as an op."""

from jitllm.backends._cpu.constants import constant
from jitllm.backends._cpu.lower import ROW_WORDS, Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

# y[t, h] = x[t, h] + v[t, h] * sum over i of r[t, h, i] * k[t, h, i] * factors[h, i], heads of dv
# columns of x, v and y, of dk columns of r, k and factors (float32).
HEAD_BONUS = abi.Op(
    "head_bonus",
    "head_bonus",
    ("rows", "x", "ldx", "v", "ldv", "r", "ldr", "k", "ldk", "factors", "y", "ldy", "n_heads",
     "dk", "dv"),
)  # fmt: skip


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    x, v, r, k = (lowering.buffer(value) for value in node.inputs)
    y, heads = lowering.new(node.outputs[0]), node.attrs["n_heads"]
    width, key_width = node.outputs[0].width, node.inputs[2].width
    lowering.planner.emit(
        HEAD_BONUS, [x, v, r, k], [y], cost=2 * (width + key_width),
        rows=ROW_WORDS[node.outputs[0].rows], x=x, ldx=x.stride, v=v, ldv=v.stride, r=r,
        ldr=r.stride, k=k, ldk=k.stride, factors=constant(lowering, node.attrs["factors"])[0], y=y,
        ldy=y.stride, n_heads=heads, dk=key_width // heads, dv=width // heads,
    )  # fmt: skip
