"""`token_table`: rows of an array, chosen by the tokens."""

from jitllm.backends._gpu.lower import LANES, Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the copy; the array is a constant of the program."""
    y, width = lowering.new(node.outputs[0]), node.outputs[0].width
    table = lowering.constant(node.attrs["table"])
    lowering.emit(
        "select_rows", [lowering.count("T"), lowering.tokens, table, y], [width, y.stride, width],
        [y], groups=-(-width // LANES), rows="T",
    )  # fmt: skip
