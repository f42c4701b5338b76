"""`input_rows`: the float rows of the run."""

from typing import Any

from jitllm.backends.base import Floats, rows_of
from jitllm.backends.ir import Node


def run(run: Any, node: Node) -> Floats:
    """Return the rows [T, width]."""
    return rows_of(run.batch, node.outputs[0].width)
