"""`add_row`: a row of numbers is added to all."""

from jitllm.backends._gpu.core import ADD, with_row
from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the sum with one row for all."""
    with_row(lowering, node, ADD, lowering.constant(node.attrs["row"]))
