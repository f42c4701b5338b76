"""`keep`: the write of an attention alone."""

from typing import Any

import numpy as np

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels import reference as kernels


def run(run: Any, node: Node, k: Floats, v: Floats) -> Floats:
    """Write keys and values to the cache; returns rows without columns."""
    cache, layer = node.attrs["cache"], node.attrs["layer"]
    pages = run.pools[cache].layers[layer]
    for segment in run.batch.segments:
        rows = slice(segment.row, segment.row + segment.rows)
        kernels.kv_write(
            k[rows], v[rows], pages, segment.tables[cache], segment.position,
            n_kv_heads=node.attrs["n_kv_heads"],
        )  # fmt: skip
    return np.empty((len(k), 0), np.float32)
