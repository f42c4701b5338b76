"""`pad_columns`: columns of one number, then those of a value."""

from jitllm.backends._gpu.core import COPY, FILL
from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit both parts."""
    (x,), before = node.inputs, node.attrs["before"]
    y = lowering.new(node.outputs[0])
    lowering.apply(FILL, y, y, before, x.rows, node.attrs["number"])
    lowering.apply(COPY, lowering.place(x), y.columns(before), x.width, x.rows)
