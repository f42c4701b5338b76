"""`softmax_mix` in NumPy."""

from typing import Any

import numpy as np

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node


def run(run: Any, node: Node, *inputs: Floats) -> Floats:
    """Return the weighted sums, in float64."""
    n = len(inputs) // 2
    values, scores = (np.stack(part).astype(np.float64) for part in (inputs[:n], inputs[n:]))
    weights = np.exp(scores - scores.max(axis=0))
    y: Floats = ((weights * values).sum(axis=0) / weights.sum(axis=0)).astype(np.float32)
    return y
