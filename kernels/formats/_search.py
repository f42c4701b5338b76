"""Find the scales that make a quantized group closest to its weights.

Every candidate scale gives codes, and codes give the scale that fits them best in the sense of
least squares; the candidate whose fit leaves the smallest weighted error wins. All groups are
searched at once. The candidates are those of llama.cpp, so that errors are like its own.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np

from jitllm.kernels.formats import Bytes, Floats
from jitllm.kernels.formats._pack import inverse, peak

Levels = Callable[[Floats], Floats]

_REFINEMENTS = 2  # codes of the best range, and the range that fits those


def linear(low: int, high: int) -> Levels:
    """Return the rounding to the whole numbers from `low` to `high`."""
    return lambda x: np.clip(np.rint(x), low, high)


def nearest_index(table: tuple[int, ...], x: Floats) -> Bytes:
    """Return the places, uint8, of the entries of a rising table that are nearest to `x`."""
    entries = np.array(table, np.float32)
    index: Bytes = np.searchsorted((entries[1:] + entries[:-1]) / 2, x).astype(np.uint8)
    return index


def from_table(table: tuple[int, ...]) -> Levels:
    """Return the rounding to the entries of a rising table."""
    entries = np.array(table, np.float32)
    return lambda x: entries[nearest_index(table, x)]


def spread(x: Floats, importance: Floats | None, plain: Floats) -> Floats:
    """Return the weights of errors: `plain`, or from the importance of columns.

    With importance q a weight is q * sqrt(2 * mean(x^2) + x^2), the mean over a row of `x`.
    """
    if importance is None:
        return plain
    square = x * x
    weight: Floats = importance * np.sqrt(2 * square.mean(axis=-1, keepdims=True) + square)
    return weight


def best_scale(x: Floats, weight: Floats, starts: Iterable[float], levels: Levels) -> Floats:
    """Return the best scale [...] of every group of `x` [..., g].

    Parameters
    ----------
    x, weight : float32 [..., g]
    starts : iterable of float
        Where candidates put the value of the largest size.
    levels : function
        Rounds scaled values to what codes stand for.
    """
    unit = inverse(peak(x))
    scaled, weighted = x * unit, weight * x
    best = np.zeros(x.shape[:-1], np.float32)
    best_gain = np.zeros_like(best)
    for start in starts:
        level = levels(scaled * np.float32(start))
        cross = (weighted * level).sum(axis=-1)
        square = (weight * level * level).sum(axis=-1)
        scale = cross * inverse(square)
        gain = cross * scale  # how far the error falls below that of all zeros
        better = gain > best_gain
        best, best_gain = np.where(better, scale, best), np.where(better, gain, best_gain)
    return best


def range_starts(first: float, importance: Floats | None) -> list[float]:
    """Return the `starts` of `best_range`: finer ones where importance is known."""
    end, step = (1.05, 0.1) if importance is None else (0.93, 0.05)
    begin = first if importance is None else -0.9
    return [begin + step * i for i in range(math.ceil((end - begin) / step))]


def best_range(
    x: Floats, weight: Floats, top: int, starts: Iterable[float], absolute: bool
) -> tuple[Floats, Floats]:
    """Return the best scale and minimum, [...] each, of every group of `x` [..., g].

    A value is scale * code - minimum, codes from 0 to `top`, the minimum not negative.

    Parameters
    ----------
    x, weight : float32 [..., g]
    top : int
    starts : iterable of float
        What candidates add to `top` as the code of the largest value.
    absolute : bool
        Judge by absolute instead of squared errors.
    """
    low = np.minimum(x.min(axis=-1, keepdims=True), 0)
    unit = inverse(x.max(axis=-1, keepdims=True) - low)
    scaled = (x - low) * unit
    sums = weight.sum(axis=-1), (weight * x).sum(axis=-1)
    best_s, best_m = np.zeros(x.shape[:-1], np.float32), -low[..., 0]
    best_error = _error(x, weight, np.zeros_like(x), (best_s, best_m), absolute)
    for start in starts:
        code = np.clip(np.rint(scaled * np.float32(start + top)), 0, top)
        fit = _fit(x, weight, code, sums)
        error = _error(x, weight, code, fit, absolute)
        better = error < best_error
        best_s, best_m = np.where(better, fit[0], best_s), np.where(better, fit[1], best_m)
        best_error = np.where(better, error, best_error)
    for _ in range(_REFINEMENTS):
        code = np.rint((x + best_m[..., None]) * inverse(best_s)[..., None])
        fit = _fit(x, weight, np.clip(code, 0, top), sums)
        error = _error(x, weight, np.clip(code, 0, top), fit, absolute)
        better = error < best_error
        best_s, best_m = np.where(better, fit[0], best_s), np.where(better, fit[1], best_m)
        best_error = np.where(better, error, best_error)
    return best_s, best_m


def _fit(
    x: Floats, weight: Floats, code: Floats, sums: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """Least squares for scale and minimum; a minimum below zero is zero."""
    sum_w, sum_x = sums
    part = weight * code
    first, second = part.sum(axis=-1), (part * code).sum(axis=-1)
    cross = (part * x).sum(axis=-1)
    unit = inverse(np.maximum(sum_w * second - first * first, 0))
    minimum = (first * cross - second * sum_x) * unit
    scale = (sum_w * cross - sum_x * first) * unit
    alone = cross * inverse(second)
    positive = minimum > 0
    return np.where(positive, scale, alone), np.where(positive, minimum, 0).astype(np.float32)


def _error(
    x: Floats, weight: Floats, code: Floats, fit: tuple[Floats, Floats], absolute: bool
) -> Floats:
    scale, minimum = fit
    off = scale[..., None] * code - minimum[..., None] - x
    size = np.abs(off) if absolute else off * off
    error: Floats = (weight * size).sum(axis=-1)
    return error


def stepped(values: Floats, weight: Floats, top: int) -> tuple[Floats, Bytes]:
    """Return a float16 step [n, 1] and uint8 multiples, up to `top`, for values [n, m] >= 0.

    The step is the best of a few, errors weighed by `weight` [n, m].
    """
    best = best_scale(values, weight, np.arange(top - 3, top + 3.1, 0.5), linear(0, top))
    step = _half(best[:, None])
    return step, np.clip(np.rint(values * inverse(step)), 0, top).astype(np.uint8)


def signed_steps(values: Floats, low: int, high: int) -> tuple[Floats, Floats]:
    """Return a float16 step [n, 1] and multiples `low` to `high`; the peak becomes `low`."""
    step = _half(peak(values) / np.float32(low))
    return step, np.clip(np.rint(values * inverse(step)), low, high)


def _half(x: Floats) -> Floats:
    return x.astype(np.float16).astype(np.float32)


def ranged_super(
    x: Floats,
    weight: Floats,
    top: int,
    limit: int,
    starts: Iterable[float],
    absolute: bool = False,
) -> tuple[Floats, Floats, Bytes, Bytes, Bytes]:
    """Quantize super-blocks x [n, groups, g] whose groups have scales and minimums.

    Returns
    -------
    d, dmin : float32 [n, 1]
        Float16 numbers.
    sc, mn : uint8 [n, groups]
        Up to `limit`.
    codes : uint8 [n, groups * g]
    """
    scale, minimum = best_range(x, weight, top, starts, absolute)
    sums = weight.sum(axis=-1)
    (d, sc), (dmin, mn) = stepped(scale, sums, limit), stepped(minimum, sums, limit)
    scale, minimum = d * sc, dmin * mn
    codes = np.rint((x + minimum[..., None]) * inverse(scale)[..., None])
    return d, dmin, sc, mn, np.clip(codes, 0, top).astype(np.uint8).reshape(len(x), -1)


def signed_super(x: Floats, scale: Floats, low: int, high: int) -> tuple[Floats, Floats, Floats]:
    """Quantize the scales [n, groups] of super-blocks x [n, groups, g] that have no minimums.

    Returns
    -------
    d : float32 [n, 1]
        A float16 number.
    sc : float32 [n, groups]
        Whole numbers from `low` to `high`.
    scaled : float32 [n, groups, g]
        `x` over the scales as they are now, ready to be rounded.
    """
    d, sc = signed_steps(scale, low, high)
    return d, sc, x * inverse(d * sc)[..., None]


def ranged_by_importance(x: Floats, importance: Floats, top: int) -> tuple[Floats, Floats, Bytes]:
    """Return scales and minimums [n, 1], and codes 0 to `top`, that weigh errors by importance."""
    scale, minimum = best_range(
        x, spread(x, importance, x), top, range_starts(-0.9, importance), False
    )
    scale, low = scale[:, None], -minimum[:, None]
    codes = np.rint((x - low) * inverse(scale))
    return scale, low, np.clip(codes, 0, top).astype(np.uint8)


def best_codes(x: Floats, importance: Floats, center: int) -> tuple[Floats, Bytes]:
    """Return scales [n, 1] and codes 0 to 2 * center - 1 that weigh errors by importance."""
    starts = np.arange(-center - 0.9, -center + 0.95, 0.1)
    scale = best_scale(x, spread(x, importance, x), starts, linear(-center, center - 1))[:, None]
    codes = np.clip(np.rint(x * inverse(scale)), -center, center - 1) + center
    return scale, codes.astype(np.uint8)
