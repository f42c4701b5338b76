"""`pad_columns` as an op."""

from jitllm.backends._cpu.lower import ROW_WORDS, Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

# y = `before` columns of `number`, then the `width` columns of x.
PAD_COLUMNS = abi.Op(
    "pad_columns", "pad_columns",
    ("rows", "x", "ldx", "y", "ldy", "width", "before", "number:f32"),
)  # fmt: skip


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    (value,), out = node.inputs, node.outputs[0]
    x, y = lowering.buffer(value), lowering.new(out)
    lowering.planner.emit(
        PAD_COLUMNS, [x], [y], cost=out.width, rows=ROW_WORDS[value.rows], x=x, ldx=x.stride, y=y,
        ldy=y.stride, width=value.width, **node.attrs,
    )  # fmt: skip
