"""`head_layer_norm` in NumPy."""

from typing import Any

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import rows as reference_rows


def run(run: Any, node: Node, x: Floats) -> Floats:
    """Return the normalized heads."""
    return reference_rows.head_layer_norm(x, node.attrs["group"], node.attrs["eps"])
