"""Points between two values, side by side: the mixes of tokens of RWKV."""

import numpy as np

from jitllm.kernels.cuda._grid import column
from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    group_y,
    load_f32,
    load_u32,
    remainder_u32,
    store_f32,
)

THREADS = 64
ZERO = np.float32(0)


def lerp(has_factors, has_shifts):
    """Make y[j] = a + (b - a) * (factors[j] + shifts[j]) for each `width` of the columns of y.

    factors is float32 [m, width], shifts has as many columns as y. The grid is (blocks of 64
    columns of y, rows).
    """

    def kernel(
        rows: A, a: A, b: A, shifts: A, factors: A, y: A, lda: U, ldb: U, lds: U, ldy: U, width: U,
        columns: U,
    ):  # fmt: skip
        row, i = group_y(), column()
        if row >= load_u32(rows) or i >= columns:
            return
        j, at = remainder_u32(i, width), ZERO
        if has_factors:
            at = load_f32(factors + 4 * i)
        if has_shifts:
            at += load_f32(shifts + 4 * (row * lds + i))
        first, last = load_f32(a + 4 * (row * lda + j)), load_f32(b + 4 * (row * ldb + j))
        store_f32(y + 4 * (row * ldy + i), first + (last - first) * at)

    return kernel
