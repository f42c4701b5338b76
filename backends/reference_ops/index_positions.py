"""`index_positions` by its twin."""

from typing import Any

import numpy as np

from jitllm.backends._reference_cache import remember, rows_and_positions
from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import sparse as reference_sparse


def run(run: Any, node: Node, q: Floats, k: Floats, w: Floats | None = None) -> Floats:
    """Return the best positions of each row [T, top_k]."""
    rules = {name: node.attrs[name] for name in ("n_heads", "top_k", "scale", "stride")}
    out = np.empty((len(q), node.outputs[0].width), np.float32)
    for segment in run.batch.segments:
        rows, positions = rows_and_positions(segment)
        keys, _ = remember(run, node, segment, k[rows], k[rows, :0], 1)
        weights = None if w is None else w[rows]
        out[rows] = reference_sparse.index_positions(q[rows], keys, weights, positions, **rules)
    return out
