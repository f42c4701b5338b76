"""Signed roots of products of two values' rows, or of groups of their columns."""

import numpy as np

from jitllm.kernels.cuda._reduce import group_sum
from jitllm.kernels.gpu.vocabulary import (
    A,
    F,
    U,
    fabs,
    fma,
    group_of_row,
    group_y,
    load_f32,
    load_u32,
    maximum,
    sqrt,
    store_f32,
    thread,
)

THREADS = 128
ZERO, LEAST = np.float32(0), np.float32(1e-6)


def signed_root_dot():
    """Make y[t, g] = sign(d) sqrt(max(|d|, 1e-6)), d = scale * (a . b) of `width` columns."""
    total = group_sum(THREADS)

    def kernel(rows: A, a: A, b: A, y: A, lda: U, ldb: U, ldy: U, width: U, scale: F):
        row, group = group_y(), group_of_row()
        if row >= load_u32(rows):
            return
        a += 4 * (row * lda + group * width)
        b += 4 * (row * ldb + group * width)
        part = ZERO
        for i in range(thread(), width, THREADS):
            part = fma(load_f32(a + 4 * i), load_f32(b + 4 * i), part)
        product = total(part) * scale
        if thread() == 0:
            root = sqrt(maximum(fabs(product), LEAST))
            if product < ZERO:
                root = -root
            store_f32(y + 4 * (row * ldy + group), root if product != ZERO else ZERO)

    return kernel
