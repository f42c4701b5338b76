"""`selective_scan` by its twin."""

from typing import Any

import numpy as np

from jitllm.backends._reference_states import over_segments
from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import ssm as reference_ssm


def run(run: Any, node: Node, x: Floats, b: Floats, c: Floats, step: Floats) -> Floats:
    """Return what the states' readers see; the states move on."""
    a, d = node.attrs["a"], node.attrs["d"]

    def one(state: Floats, rows: slice) -> tuple[Floats, Floats]:
        inputs = (x[rows], b[rows], c[rows], step[rows])
        before = reference_ssm.out_of_blocks(state.reshape(-1, len(a), 16), x.shape[1])
        y, after = reference_ssm.selective_scan(*inputs, a=a, d=d, state=before)
        return y, reference_ssm.in_blocks(after)

    return over_segments(run, node, np.empty_like(x), one)
