"""`gaussian_top`: what is far above the mean of a row."""

from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op: a workgroup for a row."""
    (value,) = node.inputs
    x, y = lowering.place(value), lowering.new(node.outputs[0])
    lowering.emit(
        "gaussian_top", [lowering.count(value.rows), x, y],
        [x.stride, y.stride, value.width, float(node.attrs["deviations"])], [y], groups=1,
        rows=value.rows,
    )  # fmt: skip
