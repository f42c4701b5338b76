"""The reference backend's caches, for operations that read all positions of a sequence."""

from typing import Any

import numpy as np

from jitllm.backends.base import PAGE_TOKENS, Floats, Segment
from jitllm.backends.ir import Node
from jitllm.kernels import reference as kernels


def remember(
    run: Any,
    node: Node,
    segment: Segment,
    k: Floats,
    v: Floats,
    n_kv_heads: int,
    *,
    first: int = 0,
) -> tuple[Floats, Floats]:
    """Write the keys and values of a segment's rows; return those of its positions from `first`.

    Raises
    ------
    ValueError
        If the segment's page table is too short, or names pages that the pool lacks.
    """
    cache, layer = node.attrs["cache"], node.attrs["layer"]
    pool, table = run.pools[cache], segment.tables[cache]
    end = segment.position + segment.rows
    if end - first > len(table) * PAGE_TOKENS or not all(0 <= p < pool.n_pages for p in table):
        raise ValueError(
            f"cache {cache}: a table of {len(table)} pages (of {pool.n_pages}) cannot hold "
            f"positions {first} to {end - 1}"
        )
    kernels.kv_write(
        k, v, pool.layers[layer], table, segment.position, n_kv_heads=n_kv_heads, kv=pool.kv_dtype
    )
    blocks = range(first // PAGE_TOKENS, (end - 1) // PAGE_TOKENS + 1)
    parts = [pool.read(layer, table[block % len(table)]) for block in blocks]
    kept = slice(first % PAGE_TOKENS, first % PAGE_TOKENS + end - first)
    keys, values = (np.concatenate(half)[kept] for half in zip(*parts, strict=True))
    return keys, values


def rows_and_positions(segment: Segment) -> tuple[slice, Any]:
    """Return the rows of a segment in the run, and their positions."""
    rows = slice(segment.row, segment.row + segment.rows)
    return rows, np.arange(segment.position, segment.position + segment.rows)
