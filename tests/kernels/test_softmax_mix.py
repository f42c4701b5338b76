"""Means weighted by a softmax: their values, and their bits in other batches and on two threads."""

from typing import Any

import numpy as np
import pytest
from launch import rows_of, run_block

from jitllm.backends.base import Floats
from jitllm.backends.cpu_ops.softmax_mix import softmax_mix
from jitllm.kernels import abi, host


def _launch(values: Floats, scores: Floats) -> Floats:
    y = host.empty_rows(*values.shape[1:])
    kept, words = [], dict[str, Any]()
    for c, (value, score) in enumerate(zip(values, scores, strict=True)):
        x, s = rows_of(value), rows_of(score)
        kept += [x, s]
        words |= {f"x{c}": x.ctypes.data, f"ldx{c}": x.strides[0]}
        words |= {f"s{c}": s.ctypes.data, f"lds{c}": s.strides[0]}
    host.launch(
        softmax_mix(len(values)), run_block(len(y)), params={}, rows=abi.N_TOKENS,
        y=y.ctypes.data, ldy=y.strides[0], width=y.shape[1], n=len(values), **words,
    )  # fmt: skip
    return y


@pytest.mark.parametrize("n", [1, 2, 9])
@pytest.mark.parametrize("width", [5, 64, 200])
def test_means_and_their_bits(n: int, width: int) -> None:
    rng = np.random.default_rng(n)
    values = rng.standard_normal((n, 50, width)).astype(np.float32)
    scores = (20 * rng.standard_normal((n, 50, 1))).astype(np.float32)
    weights = np.exp(scores.astype(np.float64) - scores.max(axis=0))
    expected = (weights / weights.sum(axis=0) * values).sum(axis=0)
    whole = _launch(values, scores)
    np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=1e-5)
    with host.threads(2):
        assert np.array_equal(_launch(values, scores), whole)
    assert np.array_equal(_launch(values[:, 7:8], scores[:, 7:8]), whole[7:8])
