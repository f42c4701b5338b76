"""`clamp` in NumPy."""

from typing import Any

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference.rows import clamp


def run(run: Any, node: Node, x: Floats) -> Floats:
    """Return the values within the bounds."""
    return clamp(x, node.attrs["bound"])
