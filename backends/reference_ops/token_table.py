"""`token_table`: rows of an array."""

from typing import Any

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels import reference


def run(run: Any, node: Node) -> Floats:
    """Return the rows of the run's tokens [T, n]."""
    return reference.select_rows(node.attrs["table"], run.batch.tokens)
