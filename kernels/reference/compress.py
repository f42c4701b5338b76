"""Twins of the kernels of compressed keys, in NumPy: see `llm/graph/words/compress.py`."""

from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.kernels.reference import rope
from jitllm.kernels.reference.weights import Floats, f32, f64, split


def compress(
    x: Floats,
    scores: Floats,
    first: int,
    positions: npt.NDArray[Any],
    *,
    ratio: int,
    overlap: bool,
    ape: Floats,
) -> Floats:
    """Return compressed keys of rows at `positions`, float32 [T, n], zeros where none ends.

    x and scores, float32 [S, width], are of the positions from `first` on.
    """
    n = x.shape[1] // 2 if overlap else x.shape[1]
    out = np.zeros((len(positions), n))
    for t, p in enumerate(positions):
        if (p + 1) % ratio:
            continue
        spans = [(p + 1 - ratio, x.shape[1] - n)]
        if overlap and p + 1 >= 2 * ratio:
            spans.insert(0, (p + 1 - 2 * ratio, 0))
        rows = [slice(start - first, start - first + ratio) for start, _ in spans]
        columns = [slice(column, column + n) for _, column in spans]
        values = np.concatenate([f64(x[r, c]) for r, c in zip(rows, columns, strict=True)])
        logits = np.concatenate(
            [f64(scores[r, c]) + ape[:, c] for r, c in zip(rows, columns, strict=True)]
        )
        weights = np.exp(logits - logits.max(axis=0))
        out[t] = (values * weights).sum(axis=0) / weights.sum(axis=0)
    return f32(out)


def rope_behind(
    x: Floats,
    positions: npt.NDArray[Any],
    *,
    n_heads: int,
    kind: str,
    frequencies: Floats,
    magnitude: float,
    behind: int,
    start: int,
) -> Floats:
    """Return x [T, H * D], columns from `start` of each head turned by position - `behind`."""
    heads = split(x, n_heads).copy()
    n_rot = 2 * len(frequencies)
    turned_columns = slice(start, start + n_rot)
    part = np.ascontiguousarray(heads[:, :, turned_columns]).reshape(len(x), -1)
    turned = rope(
        part, np.maximum(positions - behind, 0), n_heads=n_heads, head_dim=n_rot, n_rot=n_rot,
        frequencies=frequencies, magnitude=magnitude, kind=kind,
    )  # fmt: skip
    heads[:, :, turned_columns] = split(turned, n_heads)
    return heads.reshape(x.shape)
