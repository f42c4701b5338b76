"""`embed_positions`: rows of a table, chosen by position."""

from jitllm.backends._gpu.core import embed
from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the rows."""
    embed(lowering, node, lowering.positions)
