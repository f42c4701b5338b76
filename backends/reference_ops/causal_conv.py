"""`causal_conv` by its twin."""

from typing import Any

import numpy as np

from jitllm.backends._reference_states import over_segments
from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import ssm as reference_ssm


def run(run: Any, node: Node, x: Floats) -> Floats:
    """Return the filtered columns; the state moves on."""
    taps, bias, act = (node.attrs[name] for name in ("taps", "bias", "act"))

    def one(state: Floats, rows: slice) -> tuple[Floats, Floats]:
        before = state.reshape(len(taps) - 1, -1)
        return reference_ssm.causal_conv(x[rows], taps, bias, act, before)

    return over_segments(run, node, np.empty_like(x), one)
