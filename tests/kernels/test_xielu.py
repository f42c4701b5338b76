"""xIELU against its twin, and against what it says."""

import math

import numpy as np
import pytest
from launch import rows_of, run_block

from jitllm.backends.cpu_ops.xielu import XIELU
from jitllm.kernels import abi, host
from jitllm.kernels.reference import xielu as reference_xielu

NUMBERS = {"alpha_p": 0.8, "alpha_n": 1.3, "beta": 0.5, "eps": -1e-6}


def _activated(values: np.ndarray, numbers: dict[str, float]) -> np.ndarray:
    x, y = rows_of(values), host.empty_rows(*values.shape)
    host.launch(
        XIELU, run_block(len(values)), params={}, rows=abi.N_TOKENS, x=x.ctypes.data,
        ldx=x.strides[0], y=y.ctypes.data, ldy=y.strides[0], width=values.shape[1], **numbers,
    )  # fmt: skip
    return y


@pytest.mark.parametrize("eps", [0.0, -1e-6, -0.1])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_equal_to_the_twin(eps: float, n_threads: int) -> None:
    rng = np.random.default_rng(0)
    x = (rng.choice([1e-7, 1e-3, 1, 30], (9, 50)) * rng.standard_normal((9, 50))).astype(np.float32)
    x[0, :6] = (0, -0.5, -0.49999997, -100, 1e4, eps)
    numbers = NUMBERS | {"eps": eps}
    with host.threads(n_threads):
        y = _activated(x, numbers)
    expected = reference_xielu.xielu(x, **{k: float(np.float32(v)) for k, v in numbers.items()})
    np.testing.assert_allclose(y, expected, rtol=2e-6, atol=1e-7)


def test_no_digits_are_lost_near_zero() -> None:
    x = -(np.float32(10.0) ** np.arange(-6, 0, dtype=np.float32)[None])
    y = _activated(x, {"alpha_p": 0.0, "alpha_n": 1.0, "beta": 0.0, "eps": 0.0})
    np.testing.assert_allclose(y, np.expm1(x.astype(np.float64)) - x, rtol=1e-6)


def test_values() -> None:
    x = np.array([[2.0, -2.0, 0.0, np.nan]], np.float32)
    expected = [0.8 * 4 + 0.5 * 2, 1.3 * (math.exp(-2) - 1 + 2) - 0.5 * 2, -1.3e-6, np.nan]
    for y in (_activated(x, NUMBERS), reference_xielu.xielu(x, **NUMBERS)):
        np.testing.assert_allclose(y[0], expected, rtol=1e-6)
