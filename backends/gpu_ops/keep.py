"""`keep`: the write of an attention alone."""

from jitllm.backends._gpu import core as gpu_core
from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the write."""
    gpu_core.keep(lowering, node)
