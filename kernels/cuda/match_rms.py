"""Parts of a row, each with the root mean square of another value's row."""

import numpy as np

from jitllm.kernels.cuda._reduce import group_sum
from jitllm.kernels.gpu.vocabulary import (
    A,
    F,
    U,
    group_of_row,
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


def match_rms():
    """Make y = x * rms(like) / rms(x) for each `width` columns of x.

    The mean square of x counts as `least` where it is less.
    """
    total = group_sum(THREADS)

    def kernel(rows: A, x: A, like: A, y: A, ldx: U, ldl: U, ldy: U, width: U, least: F):
        row, first = group_y(), group_of_row() * width
        if row >= load_u32(rows):
            return
        x += 4 * (row * ldx + first)
        y += 4 * (row * ldy + first)
        like += 4 * row * ldl
        own, target, n = ZERO, ZERO, to_f32(width)
        for i in range(thread(), width, THREADS):
            v, w = load_f32(x + 4 * i), load_f32(like + 4 * i)
            own += v * v
            target += w * w
        own = maximum(total(own) / n, least)
        factor = sqrt(total(target) / n / own)
        for i in range(thread(), width, THREADS):
            store_f32(y + 4 * i, load_f32(x + 4 * i) * factor)

    return kernel
