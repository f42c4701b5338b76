"""`pad_columns` by its twin."""

from typing import Any

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import pad as reference_pad


def run(run: Any, node: Node, x: Floats) -> Floats:
    """Return x behind columns of one number."""
    return reference_pad.pad_columns(x, node.attrs["before"], node.attrs["number"])
