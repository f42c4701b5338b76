"""Products with one vector: their values, and their bits in other batches and on two threads."""

import numpy as np
import pytest
from launch import rows_of, run_block

from jitllm.backends.base import Floats
from jitllm.backends.cpu_ops.row_dot import ROW_DOT
from jitllm.kernels import abi, host


def _launch(x: Floats, w: Floats) -> Floats:
    rows, y = rows_of(x), host.empty_rows(len(x), 1)
    host.launch(
        ROW_DOT, run_block(len(x)), params={}, rows=abi.N_TOKENS, x=rows.ctypes.data,
        ldx=rows.strides[0], w=w.ctypes.data, y=y.ctypes.data, ldy=y.strides[0],
        width=x.shape[1],
    )  # fmt: skip
    return y


@pytest.mark.parametrize("width", [1, 17, 64, 100, 2048])
def test_products_and_their_bits(width: int) -> None:
    rng = np.random.default_rng(width)
    x = rng.standard_normal((40, width)).astype(np.float32)
    w = rng.standard_normal(width).astype(np.float32)
    whole = _launch(x, w)
    np.testing.assert_allclose(whole[:, 0], x.astype(np.float64) @ w, rtol=1e-5, atol=2e-5)
    with host.threads(2):
        assert np.array_equal(_launch(x, w), whole)
    assert np.array_equal(_launch(x[7:8], w), whole[7:8])
