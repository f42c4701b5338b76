"""Bounds, layer norms of heads and embeddings of positions: kernels against their twins."""

from typing import Any

import numpy as np
import pytest

from jitllm.backends.cpu_ops.clamp import CLAMP
from jitllm.backends.cpu_ops.head_layer_norm import HEAD_LAYER_NORM
from jitllm.kernels import abi, host
from jitllm.kernels.abi import Op
from jitllm.kernels.reference import rows as reference_rows

Floats = np.ndarray


def _rows(op: Op, x: Floats, **words: Any) -> Floats:
    """Run a kernel that makes each row of y from the same row of x."""
    source, y = host.empty_rows(*x.shape), host.empty_rows(*x.shape)
    source[...] = x
    run = np.zeros(abi.RUN_WORDS, np.int64)
    run[abi.N_TOKENS] = len(x)
    host.launch(
        op, run, params={}, rows=abi.N_TOKENS, x=source.ctypes.data, ldx=source.strides[0],
        y=y.ctypes.data, ldy=y.strides[0], width=x.shape[1], **words,
    )  # fmt: skip
    return y


def _normal(*shape: int) -> Floats:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("width", [1, 15, 16, 100, 1000])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_clamp_equals_twin(width: int, n_threads: int) -> None:
    x = 3 * _normal(40, width)
    with host.threads(n_threads):
        got = _rows(CLAMP, x, bound=1.7)
    np.testing.assert_array_equal(got, reference_rows.clamp(x, 1.7))
    assert got.max() == np.float32(1.7)


def test_clamp_of_what_is_no_number() -> None:
    x = np.array([[np.nan, np.inf, -np.inf, -0.0]], np.float32)
    expected = np.array([[np.nan, 2, -2, -0.0]], np.float32)
    for got in (_rows(CLAMP, x, bound=2.0), reference_rows.clamp(x, 2.0)):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("group", [2, 16, 20, 64, 80, 128])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_head_layer_norm_equals_twin(group: int, n_threads: int) -> None:
    x = 3 * _normal(40, 3 * group) + 2
    with host.threads(n_threads):
        got = _rows(HEAD_LAYER_NORM, x, group=group, eps=1e-5)
    expected = reference_rows.head_layer_norm(x, group, 1e-5)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=3e-6)
    alone = _rows(HEAD_LAYER_NORM, x[7:8], group=group, eps=1e-5)
    assert np.array_equal(alone, got[7:8])


def test_head_layer_norm_by_hand() -> None:
    x = np.array([[1, 3, 10, 10]], np.float32)
    np.testing.assert_allclose(reference_rows.head_layer_norm(x, 2, 1e-12)[0, :2], [-1, 1])
    np.testing.assert_array_equal(reference_rows.head_layer_norm(x, 2, 1e-5)[0, 2:], [0, 0])
