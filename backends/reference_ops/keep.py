"""`keep`: the write of an attention alone."""

from typing import Any

import numpy as np

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels import reference as kernels


def run(run: Any, node: Node, k: Floats, v: Floats) -> Floats:
    """Write keys and values to the cache; returns rows without columns."""
    cache, layer = node.attrs["cache"], node.attrs["layer"]
    pool = run.pools[cache]
    for segment in run.batch.segments:
        rows = slice(segment.row, segment.row + segment.rows)
        kernels.kv_write(
            k[rows], v[rows], pool.layers[layer], segment.tables[cache], segment.position,
            n_kv_heads=node.attrs["n_kv_heads"], kv=pool.kv_dtype,
        )  # fmt: skip
    return np.empty((len(k), 0), np.float32)
