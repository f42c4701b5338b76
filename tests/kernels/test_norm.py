"""Norms against their twins, and their bits in other batches and on two threads."""

import numpy as np
import pytest

from jitllm.kernels import host, reference

WIDTHS = [1, 2, 15, 16, 17, 63, 64, 100, 1000]


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("width", WIDTHS)
def test_rms_norm_equals_twin(width: int) -> None:
    x, w = 3 * _normal(1, 5, width), _normal(2, width)
    for gain in (w, None):
        expected = reference.rms_norm(x, gain, 1e-6)
        np.testing.assert_allclose(host.rms_norm(x, gain, 1e-6), expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("group", [2, 20, 64, 80])
def test_rms_norm_of_groups_equals_twin(group: int) -> None:
    x, w = _normal(3, 7, 3 * group), _normal(4, group)
    expected = reference.rms_norm(x, w, 1e-5, group)
    np.testing.assert_allclose(host.rms_norm(x, w, 1e-5, group), expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("width", WIDTHS)
def test_layer_norm_equals_twin(width: int) -> None:
    x, w, b = 3 * _normal(5, 4, width) + 2, _normal(6, width), _normal(7, width)
    for gain, bias in ((w, b), (w, None), (None, None)):
        expected = reference.layer_norm(x, gain, bias, 1e-5)
        actual = host.layer_norm(x, gain, bias, 1e-5)
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=3e-6)


@pytest.mark.parametrize("width", [20, 1000, 9000])
def test_bits_do_not_depend_on_batch_or_threads(width: int) -> None:
    x, w = _normal(8, 40, width), _normal(9, width)
    for norm in (host.rms_norm, lambda x, w: host.layer_norm(x, w, w)):
        whole = norm(x, w)
        with host.threads(2):
            assert np.array_equal(norm(x, w), whole)
        for rows in (slice(0, 1), slice(7, 8), slice(3, 30)):
            assert np.array_equal(norm(x[rows], w), whole[rows])


def test_group_must_divide_width() -> None:
    with pytest.raises(ValueError, match="group must divide the width 10, got 3"):
        host.rms_norm(_normal(1, 2, 10), None, group=3)


def test_nan_in_a_row_stays_in_that_row() -> None:
    x = _normal(1, 3, 33)
    x[1, 32] = np.nan
    y = host.rms_norm(x, None)
    assert np.isnan(y[1]).all() and np.isfinite(y[[0, 2]]).all()
