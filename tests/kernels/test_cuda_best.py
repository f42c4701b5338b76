"""The largest numbers of rows on the simulated GPU, against a stable sort."""

import numpy as np
import pytest
from gpu_launch import launch
from gpu_rows import count, rows_of

from jitllm.backends.base import Floats, Ints


def _found(x: Floats, k: int, part: int) -> tuple[Ints, Floats]:
    n, width = x.shape
    n_parts, source = -(-width // part), rows_of(x)
    keys, y = np.full((n + 1, n_parts * k), -7, np.int64), np.full((n + 1, 2, k), -7, np.int32)
    arguments = [count(n), source, keys, y, source.shape[1], width, n_parts * k, part]
    launch("best", (k, 0), arguments, (n_parts, n + 1))
    launch("best", (k, 1), arguments, (1, n + 1))
    assert (keys[n] == -7).all() and (y[n] == -7).all()
    return y[:n, 0], y[:n, 1].copy().view(np.float32)


def _check(x: Floats, k: int, part: int) -> None:
    ids, values = _found(x, k, part)
    for row, found, numbers in zip(x, ids, values, strict=True):
        order = np.lexsort((-np.where(np.isnan(row), 0, row), ~np.isnan(row)))[:k]
        np.testing.assert_array_equal(found[: len(order)], order)
        np.testing.assert_array_equal(numbers[: len(order)].view(np.int32), row[order].view("i4"))
        assert (found[len(order) :] == -1).all() and (numbers[len(order) :] == -np.inf).all()


@pytest.mark.parametrize("k", [1, 64, 128])
@pytest.mark.parametrize(("width", "part"), [(20, 100), (150, 64), (5000, 2300), (9000, 300)])
def test_numbers(k: int, width: int, part: int) -> None:
    rng = np.random.default_rng(width)
    _check(rng.standard_normal((2, width), np.float32), k, part)


@pytest.mark.parametrize("k", [1, 64])
def test_equal_ones_and_none_at_all(k: int) -> None:
    rng = np.random.default_rng(k)
    x = rng.integers(-2, 3, (4, 3000)).astype(np.float32)
    x[0] *= np.float32(-0.0)  # both zeros
    x[1, x[1] > 0] = -np.inf
    x[2] = -np.inf
    x[2, 2900:2903] = 1e-45, -1e-45, 3e38
    x[3, 5], x[3, 9], x[3, 11] = np.inf, np.nan, -np.nan
    _check(x, k, 1000)
