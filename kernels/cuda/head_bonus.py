"""What a token of RWKV adds to its own output, head by head."""

import numpy as np

from jitllm.kernels.cuda._reduce import group_sum
from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    fma,
    group_of_row,
    group_y,
    load_f32,
    load_u32,
    store_f32,
    thread,
)

THREADS = 64
ZERO = np.float32(0)


def head_bonus():
    """Make y = x + v * (the sum of r * k * factors over a head); the grid is (heads, rows)."""
    total_of = group_sum(THREADS)

    def kernel(
        rows: A, x: A, v: A, r: A, k: A, factors: A, y: A, ldx: U, ldv: U, ldr: U, ldk: U, ldy: U,
        dk: U, dv: U,
    ):  # fmt: skip
        row, head, share = group_y(), group_of_row(), ZERO
        if row >= load_u32(rows):
            return
        for i in range(head * dk + thread(), (head + 1) * dk, THREADS):
            key = load_f32(k + 4 * (row * ldk + i)) * load_f32(factors + 4 * i)
            share = fma(load_f32(r + 4 * (row * ldr + i)), key, share)
        share = total_of(share)
        for i in range(head * dv + thread(), (head + 1) * dv, THREADS):
            value = load_f32(v + 4 * (row * ldv + i))
            store_f32(y + 4 * (row * ldy + i), fma(value, share, load_f32(x + 4 * (row * ldx + i))))

    return kernel
