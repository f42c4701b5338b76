"""`head_layer_norm` as an op."""

from jitllm.backends._cpu.lower import ROW_WORDS, Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

# y = (x - mean) / sqrt(var + eps) over each `group` columns.
HEAD_LAYER_NORM = abi.Op(
    "head_layer_norm",
    "head_layer_norm",
    ("rows", "x", "ldx", "y", "ldy", "width", "group", "eps:f32"),
)


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    (value,) = node.inputs
    x, y = lowering.buffer(value), lowering.new(node.outputs[0])
    lowering.planner.emit(
        HEAD_LAYER_NORM, [x], [y], cost=8 * value.width, rows=ROW_WORDS[value.rows], x=x,
        ldx=x.stride, y=y, ldy=y.stride, width=value.width, **node.attrs,
    )  # fmt: skip
