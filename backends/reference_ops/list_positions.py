"""`list_positions` by its twin."""

from typing import Any

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import sparse as reference_sparse


def run(run: Any, node: Node, x: Floats) -> Floats:
    """Return positions for each row [T, most]."""
    return reference_sparse.list_positions(
        run.batch.positions, most=node.outputs[0].width, **node.attrs
    )
