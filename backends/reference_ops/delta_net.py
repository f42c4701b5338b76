"""`delta_net` by its twin."""

from typing import Any

import numpy as np

from jitllm.backends._reference_states import over_segments
from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import delta as reference_delta


def run(
    run: Any, node: Node, q: Floats, k: Floats, v: Floats, decay: Floats, beta: Floats
) -> Floats:
    """Run every segment through the states of its sequence."""
    options = {name: node.attrs[name] for name in ("n_key_heads", "scale", "tiled")}
    shape = tuple(node.attrs[name] for name in ("n_heads", "head_dim", "v_head_dim"))

    def one(state: Floats, rows: slice) -> tuple[Floats, Floats]:
        inputs = (q[rows], k[rows], v[rows], decay[rows], beta[rows])
        return reference_delta.delta_net(*inputs, state.reshape(shape), **options)

    return over_segments(run, node, np.empty_like(v), one)
