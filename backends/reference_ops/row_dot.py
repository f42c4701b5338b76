"""`row_dot` in NumPy."""

from typing import Any

import numpy as np

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node


def run(run: Any, node: Node, x: Floats) -> Floats:
    """Return the sums of products, each in float64."""
    w = run.vector(node.weights[0]).astype(np.float64)
    y: Floats = (x.astype(np.float64) * w).sum(axis=1, keepdims=True).astype(np.float32)
    return y
