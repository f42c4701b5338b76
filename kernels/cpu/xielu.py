"""xIELU: 8 bytes of memory traffic and about 25 vector operations a lane group of 16."""

import numpy as np

from jitllm.kernels.cpu import vmath
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.rows import next_rows, row_count
from jitllm.kernels.cpu.vmath import HALF, ONE, ZERO
from jitllm.kernels.simd import (
    fma,
    load_f32,
    load_f32x16,
    load_i64,
    splat_f32,
    store_f32x16,
    where_gt,
    where_lt,
)

SMALL = np.float32(-0.5)
# e^x - 1 - x = x^2 (1/2 + x (1/3! + x (1/4! + ...))): beyond x^9 nothing is left for |x| <= 1/2.
F3, F4, F5, F6, F7, F8, F9 = (
    np.float32(1 / n) for n in (6, 24, 120, 720, 5040, 40320, 362880)
)  # fmt: skip


@inline
def exp_beyond_line(x):
    """Return e^x - 1 - x for x <= 0, without the loss of digits near 0."""
    p = fma(splat_f32(F9), x, splat_f32(F8))
    p = fma(p, x, splat_f32(F7))
    p = fma(p, x, splat_f32(F6))
    p = fma(p, x, splat_f32(F5))
    p = fma(p, x, splat_f32(F4))
    p = fma(p, x, splat_f32(F3))
    p = fma(p, x, splat_f32(HALF))
    far = (vmath.exp(x) - splat_f32(ONE)) - x
    return where_gt(x, splat_f32(SMALL), p * (x * x), far)


def xielu(args, thread, n_threads, counter):
    """y = xielu(x); words: rows x ldx y ldy width alpha_p alpha_n beta eps."""
    n_rows = row_count(args)
    x, ldx, y, ldy = (load_i64(args + 16), load_i64(args + 24), load_i64(args + 32),
                      load_i64(args + 40))  # fmt: skip
    width, eps = load_i64(args + 48), splat_f32(load_f32(args + 80))
    alpha_p, alpha_n, beta = (splat_f32(load_f32(args + 56)), splat_f32(load_f32(args + 64)),
                              splat_f32(load_f32(args + 72)))  # fmt: skip
    row, end = next_rows(counter, n_rows, width)
    while row < end:
        for r in range(row, end):
            for i in range(0, 4 * width, 64):
                v = load_f32x16(x + r * ldx + i)
                z = where_lt(v, eps, v, eps)
                below = alpha_n * (exp_beyond_line(z) + (z - v))
                bent = where_gt(v, splat_f32(ZERO), alpha_p * v * v, below)
                store_f32x16(y + r * ldy + i, fma(beta, v, bent))
        row, end = next_rows(counter, n_rows, width)
