"""`whole_blocks` by its twin."""

from typing import Any

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import sparse as reference_sparse


def run(run: Any, node: Node, x: Floats) -> Floats:
    """Return positions for each row."""
    return reference_sparse.whole_blocks(x, run.batch.positions, **node.attrs)
