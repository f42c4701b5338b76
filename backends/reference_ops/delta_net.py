"""`delta_net` by its twin."""

from typing import Any

import numpy as np

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels import reference_delta


def run(
    run: Any, node: Node, q: Floats, k: Floats, v: Floats, decay: Floats, beta: Floats
) -> Floats:
    """Run every segment through the states of its sequence."""
    attrs, states, out = node.attrs, run.backend.states, np.empty_like(v)
    options = {name: attrs[name] for name in ("n_key_heads", "scale", "tiled")}
    shape = attrs["n_heads"], attrs["head_dim"], attrs["v_head_dim"]
    for segment in run.batch.segments:
        rows = slice(segment.row, segment.row + segment.rows)
        state = np.zeros(shape, np.float32)
        if segment.state_in >= 0:
            state = states.read(segment.state_in, attrs["state"]).reshape(shape)
        out[rows], state = reference_delta.delta_net(
            q[rows], k[rows], v[rows], decay[rows], beta[rows], state, **options
        )
        states.write(segment.state_out, attrs["state"], state.reshape(-1))
    return out
