"""`sparse_attention` by its twin."""

from typing import Any

import numpy as np

from jitllm.backends._reference_cache import remember, rows_and_positions
from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels import reference_sparse


def run(run: Any, node: Node, q: Floats, k: Floats, v: Floats, chosen: Floats) -> Floats:
    """Return the heads' outputs [T, H * dv]."""
    rules = {name: node.attrs[name] for name in ("n_heads", "n_kv_heads", "scale", "choices")}
    sinks = run.vector(node.weights[0])
    out = np.empty((len(q), node.outputs[0].width), np.float32)
    for segment in run.batch.segments:
        rows, positions = rows_and_positions(segment)
        keys, values = remember(run, node, segment, k[rows], v[rows], rules["n_kv_heads"])
        out[rows] = reference_sparse.sparse_attention(
            q[rows], keys, values, positions, chosen[rows], sinks=sinks, **rules
        )
    return out
