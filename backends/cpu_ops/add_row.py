"""`add_row` as an op: a sum whose second operand has one row for all."""

from jitllm.backends._cpu.constants import constant
from jitllm.backends._cpu.lower import ROW_WORDS, Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the sum."""
    (value,), width = node.inputs, node.outputs[0].width
    x, y = lowering.buffer(value), lowering.new(node.outputs[0])
    lowering.planner.emit(
        abi.ADD, [x], [y], cost=2 * width, rows=ROW_WORDS[value.rows], a=x, lda=x.stride,
        b=constant(lowering, node.attrs["row"])[0], ldb=0, y=y, ldy=y.stride, width=width,
    )  # fmt: skip
