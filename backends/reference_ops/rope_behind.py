"""`rope_behind` by its twin."""

from typing import Any

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import compress as reference_compress


def run(run: Any, node: Node, x: Floats) -> Floats:
    """Return x, the last columns of heads turned."""
    return reference_compress.rope_behind(x, run.batch.positions, **node.attrs)
