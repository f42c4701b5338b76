"""`head_bonus` by its twin."""

from typing import Any

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import wkv as reference_wkv


def run(run: Any, node: Node, x: Floats, v: Floats, r: Floats, k: Floats) -> Floats:
    """Return x with what every head adds."""
    return reference_wkv.head_bonus(x, v, r, k, node.attrs["factors"], node.attrs["n_heads"])
