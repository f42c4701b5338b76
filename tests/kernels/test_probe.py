"""The probes do the work that they are timed for."""

import numpy as np
import pytest

from jitllm.kernels import jit
from jitllm.kernels.cpu import probe


@pytest.mark.parametrize("n_threads", [1, 2])
def test_read_bandwidth_reads_every_byte(n_threads: int) -> None:
    data = np.random.default_rng(0).integers(-(2**31), 2**31, 64 * 30, np.int32)
    sums = np.zeros((n_threads, 16), np.int32)
    block = np.array([data.nbytes, data.ctypes.data, sums.ctypes.data], np.int64)
    for thread in range(n_threads):
        jit.function("probe", "read_bandwidth")(block.ctypes.data, thread, n_threads, 0)
    with np.errstate(over="ignore"):
        expected = data.reshape(n_threads, -1, 16).sum(1, dtype=np.int32)
    np.testing.assert_array_equal(sums, expected)


def test_int8_peak_multiplies_all_operands() -> None:
    blocks, rows, n_steps = probe.BLOCKS, probe.ROWS, 3
    raw = np.random.default_rng(1).integers(0, 128, probe.PEAK_BYTES + 64, np.uint8)
    start = -raw.ctypes.data % 64
    sums = np.zeros((blocks, rows, 16), np.int32)
    block = np.array([n_steps, raw.ctypes.data + start, sums.ctypes.data], np.int64)
    jit.function("probe", "int8_peak")(block.ctypes.data, 0, 1, 0)
    expected = np.zeros_like(sums)
    for step in range(n_steps):
        at = start + 64 * (step & 1)
        x_at = at + blocks * probe.BLOCK_BYTES
        weights = raw[at:x_at].reshape(blocks, 8, 16, 4).astype(np.int32)
        x = raw[x_at : x_at + 32 * rows].view(np.int8).reshape(8, rows, 4).astype(np.int32)
        expected += np.einsum("icrb,cjb->ijr", weights, x)
    np.testing.assert_array_equal(sums, expected)
    assert probe.PRODUCTS == 8 * 4 * 16 * blocks * rows
