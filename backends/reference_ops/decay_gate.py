"""`decay_gate` by its twin."""

from typing import Any

import numpy as np

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import delta as reference_delta


def run(run: Any, node: Node, x: Floats) -> Floats:
    """Return the decays."""
    rate = node.attrs["rate"]
    rate = np.repeat(rate, x.shape[1] // len(rate))
    return reference_delta.decay_gate(
        x, run.vector(node.weights[0]), rate, node.attrs["bound"], node.attrs["act"]
    )
