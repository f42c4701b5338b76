"""`head_layer_norm`: layer norm of each head, without weights."""

from jitllm.backends._gpu.core import norm
from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the norm."""
    norm(lowering, node, node.attrs["group"], is_layer=True)
