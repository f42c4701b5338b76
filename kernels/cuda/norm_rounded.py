"""Norms of rows, also as int8 for products with quantized weights.

A row of up to ROOM columns is read once: all loads are on their way at a time, those of gains too,
and the numbers stay in registers.
"""

from jitllm.kernels.cuda._kept_rows import (
    KEPT,
    QUADS,
    ROOM,
    SPAN,
    THREADS,
    four,
    keep,
    squares,
    sum_kept,
)
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


def _statistics(is_layer):
    """Make f(x, width, eps, kept): as `statistics` of `_norms`, of what was kept and the rest."""
    total, sum_of, squares_of = group_sum(THREADS), summer(THREADS), squarer(THREADS)

    @inline
    def of(x, width, eps, kept):
        n, mean, behind = to_f32(width), ZERO, x + 4 * ROOM
        if is_layer:
            mean = total(sum_kept(kept) + sum_of(behind, width - ROOM, True)) / n
        part = squares(kept, width, mean) + squares_of(behind, width - ROOM, mean, True)
        return mean, ONE / sqrt(total(part) / n + eps)

    return of


def norm_rounded(is_layer, is_scaled, is_shifted):
    """Make y as `norm` does of whole rows, and what `quantize` makes of y.

    Width is a multiple of 32, rows lie at multiples of 16 bytes.
    """
    of, (_, gains, normal) = _statistics(is_layer), normalizer(is_scaled, is_shifted)

    @inline
    def put(v, g, i, mean, factor, b, y, q, row, count, width):
        values = (ZERO, ZERO, ZERO, ZERO)
        if i < width:
            values = normal(v, g, i, mean, factor, b)
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
                keep(load_f32x4(x + 4 * i), j, kept)
                keep(gains(w, i), j, factors)
        mean, factor = of(x, width, eps, kept)
        for j in unroll(QUADS):
            if SPAN * j < width:
                v, g, i = four(kept, j), four(factors, j), SPAN * j + 4 * thread()
                put(v, g, i, mean, factor, b, y, q, row, count, width)
        for start in range(ROOM, width, SPAN):
            i = start + 4 * thread()
            v = g = (ZERO, ZERO, ZERO, ZERO)
            if i < width:
                v, g = load_f32x4(x + 4 * i), gains(w, i)
            put(v, g, i, mean, factor, b, y, q, row, count, width)

    return kernel
