"""Norms of rows, also as int8 for products with quantized weights.

A row of up to ROOM columns is read once: all loads are on their way at a time, those of gains too,
and the numbers stay in registers.
"""

from jitllm.kernels.cuda._norms import ONE, ZERO, normalizer, squarer, summer
from jitllm.kernels.cuda._reduce import group_sum
from jitllm.kernels.cuda._rounding import store_rounded
from jitllm.kernels.gpu.vocabulary import (
    A,
    F,
    U,
    group_y,
    inline,
    load_f32x4,
    load_u32,
    registers_f32,
    sqrt,
    store_f32x4,
    thread,
    to_f32,
    unroll,
)

THREADS = 512
QUADS = 4
SPAN = 4 * THREADS  # columns that the threads load at a time
ROOM, KEPT = QUADS * SPAN, 4 * QUADS


@inline
def _keep(values, j, kept):
    for c in unroll(4):
        kept[4 * j + c] = values[c]


@inline
def _four(kept, j):
    return kept[4 * j], kept[4 * j + 1], kept[4 * j + 2], kept[4 * j + 3]


@inline
def _sum(kept):
    total = ZERO
    for j in unroll(KEPT):
        total += kept[j]
    return total


@inline
def _squares(kept, width, mean):
    """Return the sum of (v - mean)^2 of what was kept."""
    total = ZERO
    for j in unroll(QUADS):
        if SPAN * j + 4 * thread() < width:
            for c in unroll(4):
                v = kept[4 * j + c] - mean
                total += v * v
    return total


def _statistics(is_layer):
    """Make f(x, width, eps, kept): as `statistics` of `_norms`, of what was kept and the rest."""
    total, sum_of, squares_of = group_sum(THREADS), summer(THREADS), squarer(THREADS)

    @inline
    def of(x, width, eps, kept):
        n, mean, behind = to_f32(width), ZERO, x + 4 * ROOM
        if is_layer:
            mean = total(_sum(kept) + sum_of(behind, width - ROOM, True)) / n
        part = _squares(kept, width, mean) + squares_of(behind, width - ROOM, mean, True)
        return mean, ONE / sqrt(total(part) / n + eps)

    return of


def norm_rounded(is_layer, is_scaled, is_shifted):
    """Make y as `norm` does of whole rows, and what `quantize` makes of y.

    Width is a multiple of 32, rows lie at multiples of 16 bytes.
    """
    of, (_, gains, four) = _statistics(is_layer), normalizer(is_scaled, is_shifted)

    @inline
    def put(v, g, i, mean, factor, b, y, q, row, count, width):
        values = (ZERO, ZERO, ZERO, ZERO)
        if i < width:
            values = four(v, g, i, mean, factor, b)
            store_f32x4(y + 4 * i, values)
        store_rounded(values[0], values[1], values[2], values[3], q, row, count, i, width)

    def kernel(rows: A, x: A, y: A, w: A, b: A, q: A, ldx: U, ldy: U, width: U, eps: F):
        row, count = group_y(), load_u32(rows)
        if row >= count:
            return
        x, y = x + 4 * row * ldx, y + 4 * row * ldy
        kept, factors = registers_f32(KEPT), registers_f32(KEPT)
        for j in unroll(QUADS):
            i = SPAN * j + 4 * thread()
            if i < width:
                _keep(load_f32x4(x + 4 * i), j, kept)
                _keep(gains(w, i), j, factors)
        mean, factor = of(x, width, eps, kept)
        for j in unroll(QUADS):
            if SPAN * j < width:
                v, g, i = _four(kept, j), _four(factors, j), SPAN * j + 4 * thread()
                put(v, g, i, mean, factor, b, y, q, row, count, width)
        for start in range(ROOM, width, SPAN):
            i = start + 4 * thread()
            v = g = (ZERO, ZERO, ZERO, ZERO)
            if i < width:
                v, g = load_f32x4(x + 4 * i), gains(w, i)
            put(v, g, i, mean, factor, b, y, q, row, count, width)

    return kernel
