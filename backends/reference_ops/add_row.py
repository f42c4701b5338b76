"""`add_row` by the twin of sums."""

from typing import Any

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels import reference


def run(run: Any, node: Node, x: Floats) -> Floats:
    """Return x + row."""
    return reference.add(x, node.attrs["row"])
