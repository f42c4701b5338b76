"""Columns put in front of others: the kernel against its twin."""

import numpy as np
import pytest

from jitllm.backends.cpu_ops.pad_columns import PAD_COLUMNS
from jitllm.kernels import abi, host
from jitllm.kernels.reference import pad as reference_pad


@pytest.mark.parametrize("width", [1, 16, 37, 1000])
@pytest.mark.parametrize("before", [1, 16, 31])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_pad_columns_equals_twin(width: int, before: int, n_threads: int) -> None:
    x, y = host.empty_rows(9, width), host.empty_rows(9, before + width)
    x[...] = np.random.default_rng(width).standard_normal(x.shape)
    run = np.zeros(abi.RUN_WORDS, np.int64)
    run[abi.N_TOKENS] = len(x)
    with host.threads(n_threads):
        host.launch(
            PAD_COLUMNS, run, params={}, rows=abi.N_TOKENS, x=x.ctypes.data, ldx=x.strides[0],
            y=y.ctypes.data, ldy=y.strides[0], width=width, before=before, number=-np.inf,
        )  # fmt: skip
    np.testing.assert_array_equal(y, reference_pad.pad_columns(x, before, -np.inf))


def test_pad_columns_by_hand() -> None:
    got = reference_pad.pad_columns(np.array([[1, 2]], np.float32), 2, 0.5)
    np.testing.assert_array_equal(got, np.array([[0.5, 0.5, 1, 2]], np.float32))
