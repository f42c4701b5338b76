"""Positions of blocks that were chosen by their last ones."""

import numpy as np

from jitllm.kernels.cuda._grid import column
from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    divide_u32,
    group_y,
    inline,
    load_f32,
    load_i32,
    load_u32,
    remainder_u32,
    store_f32,
    to_f32,
)

THREADS = 64
ZERO, NONE = np.float32(0), np.float32(-1)


@inline
def _count(ends, most):
    """Return how many of the first numbers are not negative; all others are."""
    low, high = 0, most
    while low < high:
        middle = (low + high) >> 1
        if load_f32(ends + 4 * middle) >= ZERO:
            low = middle + 1
        else:
            high = middle
    return low


def whole_blocks():
    """Make the list: all positions of the blocks of x, those behind the last whole block, -1."""

    def kernel(rows: A, positions: A, x: A, y: A, ldx: U, ldy: U, most: U, block: U):
        i, row = column(), group_y()
        if row >= load_u32(rows) or i >= most * block + block - 1:
            return
        position, ends = load_i32(positions + 4 * row) + 0, x + 4 * row * ldx
        n, number = _count(ends, most), divide_u32(i, block)
        value = NONE
        if number < n:
            value = load_f32(ends + 4 * number) - to_f32(block - 1 - remainder_u32(i, block))
        else:
            s = divide_u32(position + 1, block) * block + i - n * block
            if s <= position:
                value = to_f32(s)
        store_f32(y + 4 * (row * ldy + i), value)

    return kernel
