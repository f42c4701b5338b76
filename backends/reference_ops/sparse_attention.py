"""`sparse_attention` by its twin."""

from typing import Any

import numpy as np

from jitllm.backends._reference_cache import remember, rows_and_positions
from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import sparse as reference_sparse


def run(run: Any, node: Node, q: Floats, k: Floats, *rest: Floats) -> Floats:
    """Return the heads' outputs [T, H * dv]; without v they are of the first columns of keys."""
    names = ("n_heads", "n_kv_heads", "scale", "lists", "joint")
    rules = {name: node.attrs[name] for name in names}
    v, chosen = rest if len(rest) == 2 else (k[:, :0], rest[0])
    n_kv, dv = rules["n_kv_heads"], node.attrs["v_head_dim"]
    sinks = run.vector(node.weights[0])
    out = np.empty((len(q), node.outputs[0].width), np.float32)
    for segment in run.batch.segments:
        rows, positions = rows_and_positions(segment)
        keys, values = remember(run, node, segment, k[rows], v[rows], n_kv)
        if len(rest) == 1:
            values = keys.reshape(len(keys), n_kv, -1)[:, :, :dv].reshape(len(keys), -1)
        out[rows] = reference_sparse.sparse_attention(
            q[rows], keys, values, positions, chosen[rows], sinks=sinks, **rules
        )
    return out
