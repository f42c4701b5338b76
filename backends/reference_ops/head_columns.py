"""`head_columns` by its twin."""

from typing import Any

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import heads as reference_heads


def run(run: Any, node: Node, x: Floats) -> Floats:
    """Return the chosen columns of every head."""
    return reference_heads.head_columns(x, **node.attrs)
