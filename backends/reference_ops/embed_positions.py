"""`embed_positions` in NumPy."""

from typing import Any

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels import reference as kernels


def run(run: Any, node: Node) -> Floats:
    """Return the rows of the positions."""
    w = run.backend.weights[node.weights[0]]
    n, k = w.shape
    return kernels.embed(run.batch.positions, w.type_name, w.data, (n, k))
