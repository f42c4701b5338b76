"""Vector functions against float64, and float16 conversion over all values."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import njit

from jitllm.kernels import level as levels
from jitllm.kernels.cpu import half, vmath
from jitllm.kernels.simd import load_f32x16, load_i32x16, store_f32x16, store_i32x16


def _apply(function: Any, x: np.ndarray, load: Any = load_f32x16, store: Any = store_f32x16,
           dtype: Any = np.float32) -> np.ndarray:  # fmt: skip
    """Return the vector function of every element of a 1-dimensional array."""

    @njit
    def loop(source, target, n):  # type: ignore[no-untyped-def]
        for i in range(0, 4 * n, 64):
            store(target + i, function(load(source + i)))

    padded = np.concatenate([x, np.zeros(-len(x) % 16, x.dtype)])
    result = np.empty(len(padded), dtype)
    loop(padded.ctypes.data, result.ctypes.data, len(padded))
    return result[: len(x)]


def _ulps(actual: np.ndarray, exact: np.ndarray) -> float:
    return float(np.max(np.abs(actual - exact) / np.spacing(np.abs(exact).astype(np.float32))))


def test_exp() -> None:
    x = np.linspace(-87.29, 88.72, 400_000, dtype=np.float32)
    assert _ulps(_apply(vmath.exp, x), np.exp(x.astype(np.float64))) < 2
    special = np.array([0, -0.0, -87.4, -1e30, -np.inf, 88.73, np.inf], np.float32)
    expected = np.array([1, 1, 0, 0, 0, np.inf, np.inf], np.float32)
    assert np.array_equal(_apply(vmath.exp, special), expected)
    assert np.isnan(_apply(vmath.exp, np.array([np.nan, -np.nan], np.float32))).all()


def test_tanh() -> None:
    x = np.linspace(-12, 12, 200_001, dtype=np.float32)
    x = np.concatenate([x, np.geomspace(1e-30, 1, 1000, dtype=np.float32)])
    x = x[x != 0]
    assert _ulps(_apply(vmath.tanh, x), np.tanh(x.astype(np.float64))) < 3


def test_erf() -> None:
    import math

    x = np.linspace(-6, 6, 50_001, dtype=np.float32)
    exact = np.array([math.erf(v) for v in x])
    assert np.max(np.abs(_apply(vmath.erf, x) - exact)) < 2e-7


@pytest.mark.parametrize(("index", "exact"), [(0, np.sin), (1, np.cos)], ids=["sin", "cos"])
def test_sin_cos(index: int, exact: Callable[[np.ndarray], np.ndarray]) -> None:
    @njit
    def function(x):  # type: ignore[no-untyped-def]
        return vmath.sin_cos(x)[index]

    rng = np.random.default_rng(1)
    for limit in (4, 1000, 1e6):
        x = rng.uniform(-limit, limit, 100_000).astype(np.float32)
        assert np.max(np.abs(_apply(function, x) - exact(x.astype(np.float64)))) < 1.2e-7


# The instruction's way where there is one; the integers' way everywhere.
WIDEN = [half._widen_native, half._widen_plain][not levels.current().half :]
NARROW = [half._narrow_native, half._narrow_plain][not levels.current().half :]
ALL_HALVES = np.arange(65536, dtype=np.uint16).view(np.float16)


@pytest.mark.parametrize("widen", WIDEN)
def test_widening_is_exact_for_all_halves(widen: Any) -> None:
    @njit
    def function(x):  # type: ignore[no-untyped-def]
        return widen(x)

    words = ALL_HALVES.view(np.uint16).astype(np.int32)
    actual, expected = _apply(function, words, load_i32x16), ALL_HALVES.astype(np.float32)
    number = ~np.isnan(expected)
    assert np.array_equal(actual.view(np.uint32)[number], expected.view(np.uint32)[number])
    assert np.isnan(actual[~number]).all()


def _hard_to_round() -> np.ndarray:
    """Return every half, the middles between neighbours, and the floats next to those."""
    halves = np.unique(np.abs(ALL_HALVES[np.isfinite(ALL_HALVES)].astype(np.float32)))
    middles = (halves[1:] + halves[:-1]) / 2
    middles = np.concatenate(
        [halves, middles, np.array([65519.996, 65520, 65536, 1e30, np.inf], np.float32)]
    )
    near = [np.nextafter(middles, np.float32(d)) for d in (-np.inf, np.inf)]
    random = np.random.default_rng(2).integers(0, 2**32, 100_000, np.uint32).view(np.float32)
    every = np.concatenate([middles, *near])
    return np.concatenate([every, -every, random, np.array([np.nan], np.float32)])


@pytest.mark.parametrize("narrow", NARROW)
def test_narrowing_rounds_to_nearest_even(narrow: Any) -> None:
    @njit
    def function(x):  # type: ignore[no-untyped-def]
        return narrow(x)

    x = _hard_to_round()
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x.astype(np.float16)
    words = _apply(function, x, store=store_i32x16, dtype=np.int32)
    actual = words.astype(np.uint16).view(np.float16)
    number = ~np.isnan(expected)
    assert np.array_equal(actual.view(np.uint16)[number], expected.view(np.uint16)[number])
    assert np.isnan(actual[~number]).all()
