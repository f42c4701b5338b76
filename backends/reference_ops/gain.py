"""`gain`: see the file of this name in `cpu_ops`."""

from typing import Any

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels import reference as kernels


def run(run: Any, node: Node, x: Floats) -> Floats:
    """Return x * gain."""
    return kernels.mul(x, node.attrs["gain"])
