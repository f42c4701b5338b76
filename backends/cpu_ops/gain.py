"""`gain`: each column times a number that the owner of the graph may change between runs.

The attribute `gain` is float32 [width], the caller's; it is read at every run.
"""

from jitllm.backends._cpu.lower import ROW_WORDS, Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the product; the second operand has one row for all."""
    (value,), gain = node.inputs, node.attrs["gain"]
    if len(gain) % 16:
        raise ValueError(f"{node.name}: expected whole vectors of 16 columns, got {len(gain)}")
    x, y = lowering.buffer(value), lowering.new(node.outputs[0])
    lowering.constants.append(gain)
    lowering.planner.emit(
        abi.MUL, [x], [y], cost=2 * len(gain), rows=ROW_WORDS[value.rows], a=x, lda=x.stride,
        b=gain.ctypes.data, ldb=0, y=y, ldy=y.stride, width=len(gain),
    )  # fmt: skip
