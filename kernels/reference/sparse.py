"""Twins of the kernels of sparse attention, in plain NumPy: see `llm/graph/words/sparse.py`."""

from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.kernels.reference.weights import Floats, f32, f64, split

Ints = npt.NDArray[Any]


def top_positions(scores: npt.NDArray[Any], k: int) -> npt.NDArray[np.int64]:
    """Return the places of the k largest of `scores` [S], ascending; of equals the lower first."""
    return np.sort(np.argsort(-scores, kind="stable")[:k])


def index_positions(
    q: Floats, keys: Floats, w: Floats | None, positions: Ints, *, n_heads: int, top_k: int,
    scale: float, stride: int = 1,
) -> Floats:  # fmt: skip
    """Choose the best positions of each row by the lightning indexer.

    Parameters
    ----------
    q, w : float32 [T, H * D], [T, H] or None for ones
    keys : float32 [S, D]
        Of the positions 0 to S - 1.
    positions : int [T]
        Row t sees the positions up to its own.
    n_heads, top_k : int
    scale : float
    stride : int
        Positions s with s + 1 a multiple of it can be chosen.

    Returns
    -------
    float32 [T, top_k]
        Positions, ascending, followed by -1.
    """
    chosen = np.full((len(q), top_k), -1, np.float32)
    weights = (np.ones((len(q), n_heads), np.float32) if w is None else w) * np.float32(scale)
    for t, p in enumerate(positions):
        seen = f64(keys[stride - 1 : p + 1 : stride])
        products = f32(split(f64(q[t : t + 1]), n_heads)[0] @ seen.T)
        best = top_positions(f64(weights[t]) @ np.maximum(products, 0), top_k)
        best = best * stride + stride - 1
        chosen[t, : len(best)] = best
    return chosen


def index_blocks(
    q: Floats, keys: Floats, positions: Ints, *, n_heads: int, top_k: int, block: int, local: int
) -> Floats:
    """Choose the best blocks for each head of the index: float32 [T, H * top_k * block].

    Parameters as for `index_positions`; see `llm/graph/words/sparse.py` for the rule.
    """
    chosen = np.full((len(q), n_heads, top_k * block), -1, np.float32)
    for t, p in enumerate(positions):
        products = split(f64(q[t : t + 1]), n_heads)[0] @ f64(keys[: p + 1]).T
        last = p // block
        for h in range(n_heads):
            padded = np.pad(products[h], (0, (last + 1) * block - p - 1), constant_values=-np.inf)
            scores = padded.reshape(-1, block).max(axis=1)
            scores[max(0, last + 1 - local) :] = np.inf
            best = top_positions(scores, top_k)
            places = (best[:, None] * block + np.arange(block)).ravel()
            places = places[places <= p]
            chosen[t, h, : len(places)] = places
    return chosen.reshape(len(q), -1)


def whole_blocks(ends: Floats, positions: Ints, *, block: int) -> Floats:
    """Return the positions of blocks that end at `ends`, and those behind the last whole block.

    float32 [T, m * block + block - 1], ascending, followed by -1.
    """
    listed = np.full((len(ends), ends.shape[1] * block + block - 1), -1, np.float32)
    for t, p in enumerate(positions):
        last = ends[t][ends[t] >= 0].astype(np.int64)
        blocks = (last[:, None] + np.arange(1 - block, 1)).ravel()
        seen = np.concatenate([blocks, np.arange((p + 1) // block * block, p + 1)])
        listed[t, : len(seen)] = seen
    return listed


def list_positions(positions: Ints, *, most: int, window: int = 0, stride: int = 1) -> Floats:
    """Return for each position p the s <= p behind p - window with (s + 1) % stride == 0.

    float32 [T, most], ascending, followed by -1; what does not fit is left out.
    """
    listed = np.full((len(positions), most), -1, np.float32)
    for t, p in enumerate(positions):
        seen = np.arange(max(0, p - window + 1) if window else 0, p + 1)
        seen = seen[(seen + 1) % stride == 0][:most]
        listed[t, : len(seen)] = seen
    return listed


def sparse_attention(
    q: Floats,
    keys: Floats,
    values: Floats,
    positions: Ints,
    chosen: Floats,
    *,
    n_heads: int,
    n_kv_heads: int,
    scale: float,
    lists: tuple[int, ...],
    joint: bool = False,
    sinks: Floats | None = None,
) -> Floats:
    """Return softmax(q k^T * scale) v over chosen positions: float32 [T, H * dv].

    Parameters
    ----------
    q : float32 [T, H * dk]
    keys, values : float32 [S, G * dk], [S, G * dv]
        Of the positions 0 to S - 1.
    positions : int [T]
    chosen : float32 [T, sum of lists]
        Positions; what is not one up to the row's own is no choice.
    n_heads, n_kv_heads : int
    scale : float
    lists : tuple of int
        Widths of the choices: one, or one for each key head.
    joint : bool
        Every query head reads all key heads, each by its own list.
    sinks : float32 [H], optional
    """
    k, v = split(f64(keys), n_kv_heads), split(f64(values), n_kv_heads)
    out, ends = [], np.cumsum(lists)
    for t, p in enumerate(positions):
        places = np.split(chosen[t], ends[:-1])
        seen = [list_[(list_ >= 0) & (list_ <= p)].astype(np.int64) for list_ in places]
        for h, query in enumerate(split(f64(q[t : t + 1]), n_heads)[0]):
            read = range(n_kv_heads) if joint else [h // (n_heads // n_kv_heads)]
            parts = [(seen[g % len(lists)], g) for g in read]
            sink = -np.inf if sinks is None else float(sinks[h])
            scores = np.concatenate([k[s, g] @ query for s, g in parts]) * scale
            top = max(scores.max(initial=-np.inf), sink)
            if top == -np.inf:
                out.append(np.zeros(v.shape[2]))
                continue
            weights = np.exp(scores - top)
            total = weights @ np.concatenate([v[s, g] for s, g in parts])
            out.append(total / (weights.sum() + np.exp(sink - top)))
    return f32(np.array(out)).reshape(len(q), -1)
