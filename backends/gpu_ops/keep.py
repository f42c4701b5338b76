"""`keep`: the write of an attention alone."""

from jitllm.backends import _gpu_core
from jitllm.backends._gpu_lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the write."""
    _gpu_core.keep(lowering, node)
