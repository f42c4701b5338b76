"""What is far above a row's mean: values, and bits in other batches and on two threads."""

import numpy as np
import pytest
from launch import rows_of, run_block

from jitllm.backends.base import Floats
from jitllm.backends.cpu_ops.gaussian_top import GAUSSIAN_TOP
from jitllm.kernels import abi, host
from jitllm.kernels.reference import altup as reference_altup


def _launch(x: Floats, deviations: float) -> Floats:
    rows, y = rows_of(x), host.empty_rows(*x.shape)
    host.launch(
        GAUSSIAN_TOP, run_block(len(x)), params={}, rows=abi.N_TOKENS, x=rows.ctypes.data,
        ldx=rows.strides[0], y=y.ctypes.data, ldy=y.strides[0], width=x.shape[1],
        deviations=deviations,
    )  # fmt: skip
    return y


@pytest.mark.parametrize("width", [2, 17, 64, 1000])
@pytest.mark.parametrize("deviations", [-0.5, 0.0, 1.6448])
def test_values_and_their_bits(width: int, deviations: float) -> None:
    x = (3 + np.random.default_rng(width).standard_normal((40, width))).astype(np.float32)
    whole = _launch(x, deviations)
    expected = reference_altup.gaussian_top(x, deviations)
    np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=2e-6)
    with host.threads(2):
        assert np.array_equal(_launch(x, deviations), whole)
    assert np.array_equal(_launch(x[7:8], deviations), whole[7:8])


def test_one_in_twenty_is_left_and_nan_is_not_hidden() -> None:
    x = np.random.default_rng(0).standard_normal((1, 100_000)).astype(np.float32)
    assert abs(np.mean(_launch(x, 1.6448) > 0) - 0.05) < 0.003
    x[0, 5] = np.nan
    assert np.isnan(_launch(x, 1.6448)).all()
