"""A norm that is added to a value, and the norm of the sum with its int8 rows.

Models that norm the outputs of their blocks have it twice in a layer: two dispatches less each
time.
"""

from jitllm.kernels.cuda._kept_rows import KEPT, QUADS, SPAN, THREADS, four, keep, squares
from jitllm.kernels.cuda._norms import ONE, ZERO
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


@inline
def _product(v, factor, g):
    return v[0] * factor * g[0], v[1] * factor * g[1], v[2] * factor * g[2], v[3] * factor * g[3]


@inline
def _sum(v, r):
    return v[0] + r[0], v[1] + r[1], v[2] + r[2], v[3] + r[3]


def norm_added():
    """Make s = r + x / sqrt(mean(x^2) + eps) * w, y = s / sqrt(mean(s^2) + eps_y) * w_y.

    And q, what `quantize` makes of y. Width is a multiple of 32 and at most KEPT_COLUMNS, rows lie
    at multiples of 16 bytes.
    """
    total = group_sum(THREADS)

    @inline
    def factor_of(kept, width, eps):
        return ONE / sqrt(total(squares(kept, width, ZERO)) / to_f32(width) + eps)

    def kernel(
        rows: A, x: A, r: A, s: A, y: A, w: A, w_y: A, q: A,
        ldx: U, ldr: U, lds: U, ldy: U, width: U, eps: F, eps_y: F,
    ):  # fmt: skip
        row, count = group_y(), load_u32(rows)
        if row >= count:
            return
        x, r, s, y = x + 4 * row * ldx, r + 4 * row * ldr, s + 4 * row * lds, y + 4 * row * ldy
        kept, others = registers_f32(KEPT), registers_f32(KEPT)
        for j in unroll(QUADS):
            i = SPAN * j + 4 * thread()
            if i < width:
                keep(load_f32x4(x + 4 * i), j, kept)
                keep(load_f32x4(r + 4 * i), j, others)
        factor = factor_of(kept, width, eps)
        for j in unroll(QUADS):
            i = SPAN * j + 4 * thread()
            if i < width:
                v = _sum(_product(four(kept, j), factor, load_f32x4(w + 4 * i)), four(others, j))
                store_f32x4(s + 4 * i, v)
                keep(v, j, kept)
        factor = factor_of(kept, width, eps_y)
        for j in unroll(QUADS):
            if SPAN * j < width:
                i, v = SPAN * j + 4 * thread(), (ZERO, ZERO, ZERO, ZERO)
                if i < width:
                    v = _product(four(kept, j), factor, load_f32x4(w_y + 4 * i))
                    store_f32x4(y + 4 * i, v)
                store_rounded(v[0], v[1], v[2], v[3], q, row, count, i, width)

    return kernel
