"""Attention probabilities in NumPy: of the reference backend, and where a tap wants them."""

from collections.abc import Sequence

import numpy as np

from jitllm.backends.base import PAGE_TOKENS, Batch, Floats, Pool, Segment, Tap
from jitllm.backends.ir import Node
from jitllm.kernels import reference

_RULES = (
    "n_heads", "n_kv_heads", "scale", "window", "soft_cap", "causal", "chunked", "slopes", "table"
)  # fmt: skip


def apply_pattern_tap(
    node: Node,
    inputs: Sequence[Floats],
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
        The attention node; its keys and values are in the cache already, if it has one.
    inputs : sequence of float32
        q [T, H*dk], and k [T, G*dk] and v [T, G*dv] if the node writes some.
    out : float32 [T, H*dv]
        The node's output, overwritten for segments whose probabilities the tap changed.
    batch : Batch
    pools : sequence of Pool
    sinks : float32 [H] or None
    tap : callable
        Gets "<node name>.pattern" and float32 [H, rows, keys], once for each segment.
    """
    for segment in batch.segments:
        rows = slice(segment.row, segment.row + segment.rows)
        if node.attrs["cache"] < 0:
            keys, values, first = inputs[1][rows], inputs[2][rows], segment.position
        else:
            keys, values, first = _cells(node, segment, pools[node.attrs["cache"]])
        pattern = pattern_of(node, segment, inputs[0][rows], keys, first, sinks)
        shown = np.pad(pattern, ((0, 0), (0, 0), (first, 0)))
        before = shown.copy()
        tap(f"{node.name}.pattern", shown)
        if not np.array_equal(before, shown):
            out[rows] = weighted(shown[..., first:], values, node.attrs["n_kv_heads"])


def pattern_of(
    node: Node, segment: Segment, q: Floats, keys: Floats, first: int, sinks: Floats | None
) -> Floats:
    """Return the probabilities float32 [H, rows, S] of a segment's queries for keys.

    Parameters
    ----------
    node : Node
    segment : Segment
    q : float32 [rows, H*dk]
    keys : float32 [S, G*dk]
    first : int
        Position of the first key.
    sinks : float32 [H] or None
    """
    rules = {name: node.attrs[name] for name in _RULES}
    positions = np.arange(segment.position, segment.position + segment.rows)
    seen = np.arange(first, first + len(keys))
    return reference.attention_pattern(q, keys, positions, seen, sinks=sinks, **rules)


def seen_by(node: Node, segment: Segment) -> tuple[int, int]:
    """Return the first cell that a segment's queries see, and the one behind the last."""
    if node.attrs["cross"]:
        return 0, segment.n_cross
    window, position = node.attrs["window"], segment.position
    end = position + segment.rows
    if not window:
        return 0, end
    if node.attrs["chunked"]:
        return position - position % int(window), end
    behind = window - 1 if node.attrs["causal"] else window // 2
    return max(0, position - int(behind)), end


def _cells(node: Node, segment: Segment, pool: Pool) -> tuple[Floats, Floats, int]:
    """Return keys and values that the segment sees, and the position of the first."""
    layer, table = node.attrs["layer"], segment.tables[node.attrs["cache"]]
    first, end = seen_by(node, segment)
    blocks = range(first // PAGE_TOKENS, (end - 1) // PAGE_TOKENS + 1)
    parts = [pool.read(layer, int(table[block])) for block in blocks]
    start = first % PAGE_TOKENS
    keys, values = (np.concatenate(half) for half in zip(*parts, strict=True))
    return keys[start : start + end - first], values[start : start + end - first], first


def weighted(pattern: Floats, values: Floats, n_kv_heads: int) -> Floats:
    """Return pattern [H, T, S] times values [S, G*dv], summed in float64: [T, H*dv]."""
    by_head = values.astype(np.float64).reshape(len(values), n_kv_heads, -1).transpose(1, 0, 2)
    out = pattern @ np.repeat(by_head, len(pattern) // n_kv_heads, axis=0)
    return out.transpose(1, 0, 2).reshape(pattern.shape[1], -1).astype(np.float32)
