"""`keep`: the write of an attention alone."""

from jitllm.backends import _vulkan_core
from jitllm.backends._vulkan_lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the write."""
    _vulkan_core.keep(lowering, node)
