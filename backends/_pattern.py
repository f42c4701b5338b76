"""Attention probabilities on request: computed beside the kernel when a tap wants them."""

from collections.abc import Sequence

import numpy as np

from jitllm.backends.base import PAGE_TOKENS, Batch, Floats, Pool, Segment, Tap
from jitllm.backends.ir import Node
from jitllm.kernels import reference


def apply_pattern_tap(
    node: Node,
    q: Floats,
    out: Floats,
    batch: Batch,
    pools: Sequence[Pool],
    sinks: Floats | None,
    tap: Tap,
) -> None:
    """Show the probabilities of an attention node to a tap; if it changes them, redo the output.

    Parameters
    ----------
    node : Node
        The attention node; its keys and values are in the cache already.
    q : float32 [T, H*dk]
    out : float32 [T, H*dv]
        The node's output, overwritten for segments whose probabilities the tap changed.
    batch : Batch
    pools : sequence of Pool
    sinks : float32 [H] or None
    tap : callable
        Gets "<node name>.pattern" and float32 [H, rows, keys], once for each segment.
    """
    attrs = node.attrs
    rules = {name: attrs[name] for name in ("scale", "window", "soft_cap", "causal")}
    for segment in batch.segments:
        rows = slice(segment.row, segment.row + segment.rows)
        keys, values, first = _cells(node, segment, pools[attrs["cache"]])
        pattern = reference.attention_pattern(
            q[rows], keys, np.arange(segment.position, segment.position + segment.rows),
            np.arange(first, first + len(keys)), n_heads=attrs["n_heads"],
            n_kv_heads=attrs["n_kv_heads"], sinks=sinks, **rules,
        )  # fmt: skip
        shown = np.pad(pattern, ((0, 0), (0, 0), (first, 0)))
        before = shown.copy()
        tap(f"{node.name}.pattern", shown)
        if not np.array_equal(before, shown):
            out[rows] = _weighted(shown[..., first:], values, attrs["n_kv_heads"])


def _cells(node: Node, segment: Segment, pool: Pool) -> tuple[Floats, Floats, int]:
    """Return keys and values that the segment sees, and the position of the first."""
    window, layer = node.attrs["window"], node.attrs["layer"]
    table, end = segment.tables[node.attrs["cache"]], segment.position + segment.rows
    first = max(0, segment.position - window + 1) if window else 0
    blocks = range(first // PAGE_TOKENS, (end - 1) // PAGE_TOKENS + 1)
    parts = [pool.read(layer, int(table[block])) for block in blocks]
    start = first % PAGE_TOKENS
    keys, values = (np.concatenate(half) for half in zip(*parts, strict=True))
    return keys[start : start + end - first], values[start : start + end - first], first


def _weighted(pattern: Floats, values: Floats, n_kv_heads: int) -> Floats:
    """Return pattern [H, T, S] times values [S, G*dv] as [T, H*dv]."""
    by_head = values.reshape(len(values), n_kv_heads, -1).transpose(1, 0, 2)
    out = pattern @ np.repeat(by_head, len(pattern) // n_kv_heads, axis=0)
    return np.ascontiguousarray(out.transpose(1, 0, 2)).reshape(pattern.shape[1], -1)
