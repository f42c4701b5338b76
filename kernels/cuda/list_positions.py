"""Positions that sparse attention reads without a choice."""

import numpy as np

from jitllm.kernels.cuda._grid import column
from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    divide_u32,
    group_y,
    load_i32,
    load_u32,
    store_f32,
    to_f32,
)

THREADS = 64
NONE = np.float32(-1)


def list_positions():
    """Make the list of a row at p: s <= p behind p - window, (s + 1) % stride = 0; then -1."""

    def kernel(rows: A, positions: A, y: A, ldy: U, most: U, window: U, stride: U):
        i, row = column(), group_y()
        if row >= load_u32(rows) or i >= most:
            return
        position = load_i32(positions + 4 * row) + 0
        first = max(0, position - window + 1) if window > 0 else 0
        s = divide_u32(first + stride, stride) * stride - 1 + i * stride
        store_f32(y + 4 * (row * ldy + i), to_f32(s) if s <= position else NONE)

    return kernel
