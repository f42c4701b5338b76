"""`index_blocks` by its twin."""

from typing import Any

import numpy as np

from jitllm.backends._reference_cache import remember, rows_and_positions
from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import sparse as reference_sparse


def run(run: Any, node: Node, q: Floats, k: Floats) -> Floats:
    """Return the positions of the best blocks of each row [T, H * top_k * block]."""
    rules = {name: node.attrs[name] for name in ("n_heads", "top_k", "block", "local")}
    out = np.empty((len(q), node.outputs[0].width), np.float32)
    for segment in run.batch.segments:
        rows, positions = rows_and_positions(segment)
        keys, _ = remember(run, node, segment, k[rows], k[rows, :0], 1)
        out[rows] = reference_sparse.index_blocks(q[rows], keys, positions, **rules)
    return out
