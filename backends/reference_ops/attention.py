"""Attention: keys and values go to the cache, and queries see them."""

from typing import Any

import numpy as np

from jitllm.backends._pattern import pattern_of, seen_by, weighted
from jitllm.backends.base import PAGE_TOKENS, Floats, Segment
from jitllm.backends.ir import Node
from jitllm.kernels import reference as kernels


def run(run: Any, node: Node, q: Floats, *kv: Floats) -> Floats:
    """Return the heads' outputs [T, H * dv]; without k and v the cache has them already."""
    sinks = run.vector(node.weights[0])
    out = np.empty((len(q), node.outputs[0].width), np.float32)
    for segment in run.batch.segments:
        rows = slice(segment.row, segment.row + segment.rows)
        new = tuple(x[rows] for x in kv)
        if node.attrs["cache"] < 0:
            (keys, values), first = new, segment.position
        else:
            keys, values, first = _remember(run, node, segment, new)
        pattern = pattern_of(node, segment, q[rows], keys, first, sinks)
        whole = np.pad(pattern, ((0, 0), (0, 0), (first, 0)))  # the tap sees key j at column j
        pattern = run.tapped(f"{node.name}.pattern", whole)[..., first:]
        out[rows] = weighted(pattern, values, node.attrs["n_kv_heads"])
    return out


def _remember(
    run: Any, node: Node, segment: Segment, new: tuple[Floats, ...]
) -> tuple[Floats, Floats, int]:
    """Write keys and values; return those the segment sees and their first position."""
    cache, layer = node.attrs["cache"], node.attrs["layer"]
    pool, table = run.pools[cache], segment.tables[cache]
    first, end = seen_by(node, segment)
    if end - first > len(table) * PAGE_TOKENS or not all(0 <= p < pool.n_pages for p in table):
        raise ValueError(
            f"cache {cache}: a table of {len(table)} pages (of {pool.n_pages}) cannot hold "
            f"positions {first} to {end - 1}"
        )
    if new:
        (k, v), pages, heads = new, pool.layers[layer], node.attrs["n_kv_heads"]
        kernels.kv_write(
            k, v, pages, table, segment.position, n_kv_heads=heads, kv=pool.kv_dtype
        )  # fmt: skip
    blocks = range(first // PAGE_TOKENS, (end - 1) // PAGE_TOKENS + 1)
    parts = [pool.read(layer, table[b % len(table)]) for b in blocks]
    kept = slice(first % PAGE_TOKENS, first % PAGE_TOKENS + end - first)
    keys, values = (np.concatenate(half)[kept] for half in zip(*parts, strict=True))
    return keys, values, first
