"""`row_dot` as an op."""

from jitllm.backends._cpu.lower import ROW_WORDS, Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

# y[t, 0] = sum over j of x[t, j] * w[j]; w is float32 [width].
ROW_DOT = abi.Op("row_dot", "row_dot", ("rows", "x", "ldx", "w", "y", "ldy", "width"))


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    (value,) = node.inputs
    x, y = lowering.buffer(value), lowering.new(node.outputs[0])
    lowering.planner.emit(
        ROW_DOT, [x], [y], cost=value.width, rows=ROW_WORDS[value.rows], x=x, ldx=x.stride,
        w=lowering.vector(node.weights[0]), y=y, ldy=y.stride, width=value.width,
    )  # fmt: skip
