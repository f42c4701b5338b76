"""`xielu` in NumPy."""

from typing import Any

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import xielu as reference_xielu


def run(run: Any, node: Node, x: Floats) -> Floats:
    """Return the activated values."""
    return reference_xielu.xielu(x, **node.attrs)
