"""`clamp`: values within bounds."""

from jitllm.backends._gpu.core import CLAMP
from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit min(max(x, -bound), bound)."""
    lowering.unary(node, CLAMP, node.attrs["bound"])
