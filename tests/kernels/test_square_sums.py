"""Sums of squares of experts' rows: the kernel against its twin, on one thread and on two."""

import numpy as np
import pytest
from launch import rows_of, run_block

from jitllm.backends.cpu_ops.open_experts import SQUARE_SUMS
from jitllm.kernels import host
from jitllm.kernels.reference import squares as reference_squares

E, TILE_ROWS = 3, 4


@pytest.mark.parametrize("n_tokens", [1, 7])
@pytest.mark.parametrize("width", [5, 64, 200])
def test_sums(width: int, n_tokens: int) -> None:
    rng = np.random.default_rng(width)
    tiles = np.array([0, 2, 2], np.int32)
    tile_rows = 1 if n_tokens == 1 else TILE_ROWS
    n_slots = len(tiles) * tile_rows
    index = np.where(rng.random(n_slots) < 0.3, -1, 0).astype(np.int32)
    x = rng.standard_normal((n_slots, width)).astype(np.float32)
    x[index < 0] = np.nan  # of unused slots nothing is read
    start = rng.random((E, width)).astype(np.float32)
    expected, counts = start.copy(), np.array([4, 5, 6], np.int32)
    used = index >= 0
    reference_squares.square_sums(x[used], np.repeat(tiles, tile_rows)[used], expected, counts)
    for n_threads in (1, 2):
        rows, sums = rows_of(x), rows_of(start)
        found = np.array([4, 5, 6], np.int32)
        with host.threads(n_threads):
            host.launch(
                SQUARE_SUMS, run_block(n_tokens, N_SLOTS=n_slots), params={"tile_rows": TILE_ROWS},
                x=rows.ctypes.data, ldx=rows.strides[0], index=index.ctypes.data,
                tile_experts=tiles.ctypes.data, sums=sums.ctypes.data, lds=sums.strides[0],
                counts=found.ctypes.data, width=width,
            )  # fmt: skip
        np.testing.assert_allclose(sums, expected, rtol=1e-6)
        assert np.array_equal(found, counts)
        assert np.array_equal(sums[1], start[1])
