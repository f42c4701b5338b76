"""`input_rows`: the float rows of a run, which lie in its block."""

from jitllm.backends._gpu.core import COPY
from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the copy."""
    y, width = lowering.new(node.outputs[0]), node.outputs[0].width
    x = lowering.row_place(4 * width, stride=width)
    lowering.input_rows.append((x, width))
    lowering.emit(
        "unary", [lowering.count("T"), x, y], [x.stride, y.stride, width, 0.0, 0.0, 0.0, 0.0],
        [y], groups=-(-width // lowering.columns), rows="T", constants=(COPY, 0),
    )  # fmt: skip
