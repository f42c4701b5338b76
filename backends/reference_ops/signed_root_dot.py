"""`signed_root_dot` by its twin."""

from typing import Any

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import ngram as reference_ngram


def run(run: Any, node: Node, a: Floats, b: Floats) -> Floats:
    """Return the roots."""
    return reference_ngram.signed_root_dot(a, b, node.attrs["n_groups"], node.attrs["scale"])
