"""Twins of the kernels in `kernels/cpu/altup.py` and `gaussian_top.py`, in plain NumPy."""

from collections.abc import Sequence

import numpy as np

from jitllm.kernels.reference.weights import Floats, f32, f64


def weighted_add(
    x: Floats, gates: Floats, sources: Sequence[Floats], start: int, shift: float
) -> Floats:
    """Return x + sum over j of (gates[:, start + j] + shift) * sources[j].

    Parameters
    ----------
    x : float32 [T, width]
    gates : float32 [T, any]
    sources : sequence of float32 [T, width]
    start : int
    shift : float
    """
    y = f64(x)
    for column, source in enumerate(sources, start):
        y = y + (f64(gates[:, column : column + 1]) + shift) * source
    return f32(y)


def match_rms(x: Floats, like: Floats, floor: float) -> Floats:
    """Return x [T, S * n] with the root mean square of `like` [T, n] in each n columns.

    The mean square of x counts as `floor` where it is less.
    """
    parts = f64(x.reshape(len(x), -1, like.shape[1]))
    target = np.mean(f64(like) ** 2, axis=1)[:, None, None]
    own = np.maximum(np.mean(parts**2, axis=2, keepdims=True), floor)
    return f32((parts * np.sqrt(target / own)).reshape(x.shape))


def gaussian_top(x: Floats, deviations: float) -> Floats:
    """Return max(x - mean - deviations * std, 0) of each row, std with width - 1."""
    wide = f64(x)
    cut = wide.mean(axis=1) + deviations * wide.std(axis=1, ddof=1)
    return f32(np.maximum(wide - cut[:, None], 0))
