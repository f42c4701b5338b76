"""Points between two rows, column by column: 8 bytes read once, 4 or 8 and two fma for each point.

RWKV mixes a token with the one before it in several ways at once, each for one matrix.
"""

from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.rows import next_rows, row_count
from jitllm.kernels.cpu.vmath import ZERO, load_part, store_part
from jitllm.kernels.simd import fma, load_f32x16, load_i64, splat_f32, store_f32x16


@inline
def _between(a, b, where):
    return fma(b - a, where, a)


@inline
def _point(a, b, factors, shifts, y, width):
    """y = a + (b - a) * (factors + shifts) for the columns of one point."""
    for i in range(0, 4 * width, 64):
        where, n = splat_f32(ZERO), width - i // 4
        if factors != 0:
            where = load_f32x16(factors + i)
        if n >= 16:
            if shifts != 0:
                where = where + load_f32x16(shifts + i)
            store_f32x16(y + i, _between(load_f32x16(a + i), load_f32x16(b + i), where))
        else:  # the next point begins inside this vector
            if shifts != 0:
                where = where + load_part(shifts + i, n)
            store_part(y + i, _between(load_part(a + i, n), load_part(b + i, n), where), n)


def lerp(args, thread, n_threads, counter):
    """y[t, j] = a[t] + (b[t] - a[t]) * (factors[j] + shifts[t, j]) (`LERP` of `cpu_ops`)."""
    n_rows = row_count(args)
    a, lda, b, ldb = (load_i64(args + 16), load_i64(args + 24), load_i64(args + 32),
                      load_i64(args + 40))  # fmt: skip
    shifts, lds, factors, ldf = (load_i64(args + 48), load_i64(args + 56), load_i64(args + 64),
                                 load_i64(args + 72))  # fmt: skip
    y, ldy, width, m = (load_i64(args + 80), load_i64(args + 88), load_i64(args + 96),
                        load_i64(args + 104))  # fmt: skip
    row, end = next_rows(counter, n_rows, width * m)
    while row < end:
        for r in range(row, end):
            for j in range(m):
                at = 4 * j * width
                moved = shifts + r * lds + at if shifts != 0 else 0
                _point(a + r * lda, b + r * ldb, factors + j * ldf, moved, y + r * ldy + at, width)
        row, end = next_rows(counter, n_rows, width * m)
