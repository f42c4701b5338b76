"""`gain`: each column times a number that the owner of the graph may change between runs."""

from jitllm.backends._gpu.core import MUL, with_row
from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the product; the numbers are read at every run."""
    gain = node.attrs["gain"]
    place = lowering.run_place(4 * len(gain))
    lowering.copies.append((place, gain))
    with_row(lowering, node, MUL, place)
