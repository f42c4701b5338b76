"""Rows of packed tables on the simulated GPU: bits are those of the formats."""

from typing import Any

import numpy as np
import pytest
from blocks import random_blocks
from gpu_launch import launch
from gpu_rows import check, count, empty_rows, few
from launch import pack

from jitllm.kernels import formats

N, FAST = 37, ("BF16", "Q4_0", "Q5_K", "IQ3_S")


def _check(fmt: str, k: int, ids: Any) -> None:
    n_blocks = N * k // formats.get(fmt).block_size
    data = random_blocks(fmt, n_blocks, np.random.default_rng(k))
    values = formats.dequantize(fmt, data, (N, k))
    matrix = pack(fmt, data, N, k)
    n, y = len(ids), empty_rows(len(ids), k)
    groups = -(-k // (32 * 64))
    arguments = [count(n), np.array(ids, np.int32), matrix.memory.bytes, y, y.shape[1], k, 0]
    launch("embed", (), arguments, (groups, n + 1), fmt=fmt)
    np.testing.assert_array_equal(y[:n, :k].view(np.int32), values[ids].view(np.int32))
    check(y, values[ids], 0)


@pytest.mark.parametrize("fmt", few(formats.names(), FAST))
def test_rows(fmt: str) -> None:
    layout = formats.get(fmt)
    if layout.scales == "float":
        _check(fmt, 50, [36, 0, 17, 17])
    _check(fmt, max(layout.block_size, 32), [36, 0, 17, 17])


@pytest.mark.parametrize("fmt", few(formats.names(), FAST[-1:]))
def test_long_rows(fmt: str) -> None:
    _check(fmt, 2304, [35, 1, 2, 3])
    _check(fmt, 256, range(N))
