"""Norms of rows, or of groups of their columns: a workgroup for each."""

import numpy as np

from jitllm.kernels.cuda._reduce import group_sum
from jitllm.kernels.gpu import (
    A,
    F,
    U,
    group_of_row,
    group_y,
    inline,
    load_f32,
    load_f32x4,
    load_u32,
    sqrt,
    store_f32,
    store_f32x4,
    thread,
    to_f32,
)

THREADS = 128
ZERO, ONE = np.float32(0), np.float32(1)


@inline
def _sum(x, n, quads):
    """Return a thread's part of the sum of n numbers; `quads` says that four load at once."""
    total = ZERO
    if quads:
        for i in range(4 * thread(), n, 4 * THREADS):
            a, b, c, d = load_f32x4(x + 4 * i)
            total += (a + b) + (c + d)
    else:
        for i in range(thread(), n, THREADS):
            total += load_f32(x + 4 * i)
    return total


@inline
def _squares(x, n, mean, quads):
    """Return a thread's part of the sum of (x - mean)^2."""
    total = ZERO
    if quads:
        for i in range(4 * thread(), n, 4 * THREADS):
            a, b, c, d = load_f32x4(x + 4 * i)
            a, b, c, d = a - mean, b - mean, c - mean, d - mean
            total += (a * a + b * b) + (c * c + d * d)
    else:
        for i in range(thread(), n, THREADS):
            v = load_f32(x + 4 * i) - mean
            total += v * v
    return total


def _normalizer(is_scaled, is_shifted):
    """Make value(v, w, b, i): a normalized number times w[i] plus b[i]."""

    @inline
    def value(v, w, b, i):
        if is_scaled:
            v = v * load_f32(w + 4 * i)
        if is_shifted:
            v = v + load_f32(b + 4 * i)
        return v

    return value


def norm(is_layer, is_scaled, is_shifted):
    """Make y = x / sqrt(mean(x^2) + eps) * w + b over each `group` columns.

    With `is_layer` it is of x - mean(x) instead of x; w and b are there if `is_scaled` and
    `is_shifted`.
    """
    total, value = group_sum(THREADS), _normalizer(is_scaled, is_shifted)

    def kernel(rows: A, x: A, y: A, w: A, b: A, ldx: U, ldy: U, group: U, eps: F):
        row, first = group_y(), group_of_row() * group
        if row >= load_u32(rows):
            return
        x += 4 * (row * ldx + first)
        y += 4 * (row * ldy + first)
        quads = (x | y | 4 * group) & 15 == 0
        n, mean = to_f32(group), ZERO
        if is_layer:
            mean = total(_sum(x, group, quads)) / n
        factor = ONE / sqrt(total(_squares(x, group, mean, quads)) / n + eps)
        if quads:
            for i in range(4 * thread(), group, 4 * THREADS):
                p, q, r, s = load_f32x4(x + 4 * i)
                quad = (
                    value((p - mean) * factor, w, b, i),
                    value((q - mean) * factor, w, b, i + 1),
                    value((r - mean) * factor, w, b, i + 2),
                    value((s - mean) * factor, w, b, i + 3),
                )
                store_f32x4(y + 4 * i, quad)
        else:
            for i in range(thread(), group, THREADS):
                store_f32(y + 4 * i, value((load_f32(x + 4 * i) - mean) * factor, w, b, i))

    return kernel
