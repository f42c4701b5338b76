"""Streams added with weights, or made equally large: values, bits in other batches, threads."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from launch import rows_of, run_block

from jitllm.backends.base import Floats
from jitllm.backends.cpu_ops.match_rms import MATCH_RMS
from jitllm.backends.cpu_ops.weighted_add import weighted_add
from jitllm.kernels import abi, host
from jitllm.kernels.reference import altup as reference_altup


def _add(x: Floats, gates: Floats, sources: Sequence[Floats], start: int, shift: float) -> Floats:
    y, (x, gates, *kept) = host.empty_rows(*x.shape), [rows_of(a) for a in (x, gates, *sources)]
    words: dict[str, Any] = {}
    for c, source in enumerate(kept):
        words |= {f"s{c}": source.ctypes.data, f"lds{c}": source.strides[0]}
    host.launch(
        weighted_add(len(kept)), run_block(len(y)), params={}, rows=abi.N_TOKENS,
        x=x.ctypes.data, ldx=x.strides[0], gates=gates.ctypes.data, ldg=gates.strides[0],
        start=start, shift=shift, y=y.ctypes.data, ldy=y.strides[0], width=y.shape[1],
        n=len(kept), **words,
    )  # fmt: skip
    return y


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("width", [5, 64, 200])
def test_weighted_sums_and_their_bits(n: int, width: int) -> None:
    rng = np.random.default_rng(width)
    x, *sources = rng.standard_normal((n + 1, 50, width)).astype(np.float32)
    gates = rng.standard_normal((50, 9)).astype(np.float32)
    expected = reference_altup.weighted_add(x, gates, sources, 3, 1.0)
    whole = _add(x, gates, sources, 3, 1.0)
    np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=1e-5)
    with host.threads(2):
        assert np.array_equal(_add(x, gates, sources, 3, 1.0), whole)
    part = [source[7:8] for source in sources]
    assert np.array_equal(_add(x[7:8], gates[7:8], part, 3, 1.0), whole[7:8])


def _match(x: Floats, like: Floats, floor: float) -> Floats:
    y, x, like = host.empty_rows(*x.shape), rows_of(x), rows_of(like)
    host.launch(
        MATCH_RMS, run_block(len(y)), params={}, rows=abi.N_TOKENS, x=x.ctypes.data,
        ldx=x.strides[0], like=like.ctypes.data, ldl=like.strides[0], y=y.ctypes.data,
        ldy=y.strides[0], width=y.shape[1], group=like.shape[1], floor=floor,
    )  # fmt: skip
    return y


@pytest.mark.parametrize("width", [16, 40, 200])
def test_sizes_and_their_bits(width: int) -> None:
    rng = np.random.default_rng(width)
    x = rng.standard_normal((50, 3 * width)).astype(np.float32)
    like = (9 * rng.standard_normal((50, width))).astype(np.float32)
    x[3, :width], x[4, :width], like[5] = 0, 1e-4, 0
    whole = _match(x, like, 1e-5)
    np.testing.assert_allclose(whole, reference_altup.match_rms(x, like, 1e-5), rtol=1e-5)
    sizes = np.sqrt(np.mean(whole.reshape(50, 3, width) ** 2, axis=2))
    target = np.sqrt(np.mean(like**2, axis=1))
    np.testing.assert_allclose(sizes[6:], np.repeat(target[6:, None], 3, 1), rtol=1e-5)
    assert not whole[3, :width].any() and not whole[5].any()
    assert sizes[4, 0] < target[4] / 10  # so small a row is not made large
    with host.threads(2):
        assert np.array_equal(_match(x, like, 1e-5), whole)
    assert np.array_equal(_match(x[7:8], like[7:8], 1e-5), whole[7:8])
