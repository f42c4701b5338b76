"""Norms on the simulated GPU, and other kernels with a sum along the row, against their twins."""

import numpy as np
import pytest
from gpu_launch import launch
from gpu_products import poisoned, quantize
from gpu_rows import check, count, empty_rows, rows_of

from jitllm.kernels import reference
from jitllm.kernels.reference import altup as reference_altup
from jitllm.kernels.reference import ngram as reference_ngram


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape[-1]).standard_normal(shape, np.float32)


@pytest.mark.parametrize(
    ("n", "width", "group"),
    [(1, 64, 64), (3, 50, 50), (2, 1024, 1024), (5, 129, 129), (3, 60, 20), (2, 21, 7)],
)
@pytest.mark.parametrize("is_scaled", [False, True])
def test_rms_norm(n: int, width: int, group: int, is_scaled: bool) -> None:
    x, w = 3 * _random(n, width), _random(group) if is_scaled else None
    y, source = empty_rows(n, width), rows_of(x)
    arguments = [count(n), source, y, w, None, source.shape[1], y.shape[1], group, 1e-5]
    launch("norm", (0, is_scaled, 0), arguments, (width // group, n + 1))
    check(y, reference.rms_norm(x, w, 1e-5, group), 2e-6, 1e-6)


@pytest.mark.parametrize(("n", "width"), [(1, 1), (2, 100), (3, 33), (1, 2000)])
@pytest.mark.parametrize("has_weights", [False, True])
def test_layer_norm(n: int, width: int, has_weights: bool) -> None:
    x = 5 + _random(n, width)
    w, b = (_random(width), _random(width)[::-1].copy()) if has_weights else (None, None)
    y, source = empty_rows(n, width), rows_of(x)
    arguments = [count(n), source, y, w, b, source.shape[1], y.shape[1], width, 1e-5]
    launch("norm", (1, has_weights, has_weights), arguments, (1, n))
    check(y, reference.layer_norm(x, w, b, 1e-5), 2e-5, 3e-6)


def test_norm_of_columns_that_begin_anywhere() -> None:
    x, n, group = _random(4, 80), 4, 24
    for first in range(5):
        source, y = rows_of(x), empty_rows(n, 80)
        at = np.ascontiguousarray(np.concatenate([source.reshape(-1)[first:], source[:1, 0]]))
        arguments = [count(n), at, y, None, None, source.shape[1], y.shape[1], group, 1e-6]
        launch("norm", (0, 0, 0), arguments, (2, n))
        part = x[:, first : first + 2 * group]
        check(y, reference.rms_norm(part, None, 1e-6, group), 2e-6, 1e-6)


@pytest.mark.parametrize(("n", "parts", "width"), [(1, 1, 7), (3, 3, 50), (2, 2, 300)])
def test_match_rms(n: int, parts: int, width: int) -> None:
    x, like = _random(n, parts * width), 4 * _random(n, width)
    x[0, :width] = 0
    a, b, y = rows_of(x), rows_of(like), empty_rows(n, parts * width)
    strides = (z.shape[1] for z in (a, b, y))
    launch("match_rms", (), [count(n), a, b, y, *strides, width, 1e-5], (parts, n + 1))
    check(y, reference_altup.match_rms(x, like, 1e-5), 3e-6)


@pytest.mark.parametrize(("n", "width"), [(1, 2), (3, 17), (2, 1000)])
@pytest.mark.parametrize("deviations", [-0.5, 1.6448])
def test_gaussian_top(n: int, width: int, deviations: float) -> None:
    x = 3 + _random(n, width)
    source, y = rows_of(x), empty_rows(n, width)
    arguments = [count(n), source, y, source.shape[1], y.shape[1], width, deviations]
    launch("gaussian_top", (), arguments, (1, n))
    check(y, reference_altup.gaussian_top(x, deviations), 1e-4, 3e-6)


@pytest.mark.parametrize(("n", "groups", "width"), [(1, 1, 1), (3, 4, 40), (2, 1, 500)])
def test_signed_root_dot(n: int, groups: int, width: int) -> None:
    a, b = _random(n, groups * width), _random(n, groups * width)[::-1].copy()
    a[0, :width] = 0
    p, q, y = rows_of(a), rows_of(b), empty_rows(n, groups)
    strides = (z.shape[1] for z in (p, q, y))
    launch("signed_root_dot", (), [count(n), p, q, y, *strides, width, 0.25], (groups, n + 1))
    check(y, reference_ngram.signed_root_dot(a, b, groups, 0.25), 2e-5)


@pytest.mark.parametrize(("n", "width"), [(1, 32), (3, 2080), (2, 1024), (1, 10272)])
@pytest.mark.parametrize("is_layer", [False, True])
def test_norm_and_its_rounded_rows(n: int, width: int, is_layer: bool) -> None:
    x, w, b = 2 + _random(n, width), _random(width), _random(width)[::-1].copy()
    y, source, q = empty_rows(n, width), rows_of(x), poisoned(n * width // 32 * 40)
    arguments = [count(n), source, y, w, b, q, source.shape[1], y.shape[1], width, 1e-5]
    launch("norm_rounded", (is_layer, 1, is_layer), arguments, (1, n + 1))
    twin = reference.layer_norm(x, w, b, 1e-5) if is_layer else reference.rms_norm(x, w, 1e-5)
    check(y, twin, 2e-5, 3e-6)
    np.testing.assert_array_equal(q, quantize(np.ascontiguousarray(y[:n, :width])))


@pytest.mark.parametrize(("n", "width"), [(1, 32), (3, 2080), (2, 640), (1, 8192)])
def test_norm_that_is_added_and_normed(n: int, width: int) -> None:
    x, r = 2 + _random(n, width), _random(n, width)[::-1, ::-1].copy()
    w, w_y = _random(width), _random(width)[::-1].copy()
    s, y, q = empty_rows(n, width), empty_rows(n, width), poisoned(n * width // 32 * 40)
    rows = rows_of(x), rows_of(r), s, y
    arguments = [count(n), *rows, w, w_y, q, *(a.shape[1] for a in rows), width, 1e-5, 1e-6]
    launch("norm_added", (), arguments, (1, n + 1))
    twin = r + reference.rms_norm(x, w, 1e-5)
    check(s, twin, 2e-5, 3e-6)
    check(y, reference.rms_norm(twin, w_y, 1e-6), 2e-5, 3e-6)
    np.testing.assert_array_equal(q, quantize(np.ascontiguousarray(y[:n, :width])))
