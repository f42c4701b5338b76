"""What is far above the mean of a row: a workgroup for a row."""

import numpy as np

from jitllm.kernels.cuda._reduce import group_sum
from jitllm.kernels.gpu.vocabulary import (
    A,
    F,
    U,
    group_y,
    load_f32,
    load_u32,
    maximum,
    sqrt,
    store_f32,
    thread,
    to_f32,
)

THREADS = 128
ZERO = np.float32(0)


def gaussian_top():
    """Make y = max(x - mean - deviations * std, 0) of each row, std with width - 1."""
    total = group_sum(THREADS)

    def kernel(rows: A, x: A, y: A, ldx: U, ldy: U, width: U, deviations: F):
        row = group_y()
        if row >= load_u32(rows):
            return
        x += 4 * row * ldx
        y += 4 * row * ldy
        part = ZERO
        for i in range(thread(), width, THREADS):
            part += load_f32(x + 4 * i)
        mean, part = total(part) / to_f32(width), ZERO
        for i in range(thread(), width, THREADS):
            v = load_f32(x + 4 * i) - mean
            part += v * v
        cut = mean + deviations * sqrt(total(part) / to_f32(width - 1))
        for i in range(thread(), width, THREADS):
            store_f32(y + 4 * i, maximum(load_f32(x + 4 * i) - cut, ZERO))

    return kernel
