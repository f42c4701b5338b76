"""Norms of rows, or of groups of their columns: a workgroup for each."""

from jitllm.kernels.cuda._norms import normalizer, statistics
from jitllm.kernels.gpu.vocabulary import (
    A,
    F,
    U,
    group_of_row,
    group_y,
    load_f32,
    load_f32x4,
    load_u32,
    store_f32,
    store_f32x4,
    thread,
)

THREADS = 128


def norm(is_layer, is_scaled, is_shifted):
    """Make y = x / sqrt(mean(x^2) + eps) * w + b over each `group` columns.

    With `is_layer` it is of x - mean(x) instead of x; w and b are there if `is_scaled` and
    `is_shifted`.
    """
    of = statistics(is_layer, THREADS)
    one, gains, four = normalizer(is_scaled, is_shifted)

    def kernel(rows: A, x: A, y: A, w: A, b: A, ldx: U, ldy: U, group: U, eps: F):
        row, first = group_y(), group_of_row() * group
        if row >= load_u32(rows):
            return
        x += 4 * (row * ldx + first)
        y += 4 * (row * ldy + first)
        quads = (x | y | w | b | 4 * group) & 15 == 0
        mean, factor = of(x, group, eps, quads)
        if quads:
            for i in range(4 * thread(), group, 4 * THREADS):
                v = load_f32x4(x + 4 * i)
                store_f32x4(y + 4 * i, four(v, gains(w, i), i, mean, factor, b))
        else:
            for i in range(thread(), group, THREADS):
                store_f32(y + 4 * i, one(load_f32(x + 4 * i), i, mean, factor, w, b))

    return kernel
