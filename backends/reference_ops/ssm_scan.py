"""`ssm_scan` by its twin."""

from typing import Any

import numpy as np

from jitllm.backends._reference_states import over_segments
from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import ssm as reference_ssm


def run(
    run: Any, node: Node, x: Floats, b: Floats, c: Floats, step: Floats | None = None
) -> Floats:
    """Return what the states' readers see; the states move on."""
    options = {name: node.attrs[name] for name in ("a", "d", "step_bias", "n_groups")}
    heads = node.attrs["n_heads"]

    def one(state: Floats, rows: slice) -> tuple[Floats, Floats]:
        before = state.reshape(heads, -1, x.shape[1] // heads)
        steps = None if step is None else step[rows]
        return reference_ssm.ssm_scan(x[rows], b[rows], c[rows], steps, **options, state=before)

    return over_segments(run, node, np.empty_like(x), one)
