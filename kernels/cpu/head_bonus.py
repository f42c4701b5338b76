"""What a token adds to its own output: heads of values times a product of three vectors.

The product is summed by lanes in ascending columns, then in a fixed tree: its bits depend on the
head alone. 12 bytes read and one written for each column, three operations.
"""

from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.rows import next_rows, row_count
from jitllm.kernels.cpu.vmath import ZERO, load_part, store_part
from jitllm.kernels.simd import (
    fma,
    load_f32x16,
    load_i64,
    reduce_add,
    splat_f32,
    store_f32x16,
)


@inline
def _product(r, k, factors, n):
    """Return the sum of r * k * factors in every lane."""
    total = splat_f32(ZERO)
    i = 0
    while i + 16 <= n:
        scaled = load_f32x16(k + 4 * i) * load_f32x16(factors + 4 * i)
        total = fma(load_f32x16(r + 4 * i), scaled, total)
        i += 16
    if i < n:
        scaled = load_part(k + 4 * i, n - i) * load_part(factors + 4 * i, n - i)
        total = fma(load_part(r + 4 * i, n - i), scaled, total)
    return splat_f32(reduce_add(total))


@inline
def _add(x, v, share, y, n):
    i = 0
    while i + 16 <= n:
        store_f32x16(y + 4 * i, fma(load_f32x16(v + 4 * i), share, load_f32x16(x + 4 * i)))
        i += 16
    if i < n:
        rest = fma(load_part(v + 4 * i, n - i), share, load_part(x + 4 * i, n - i))
        store_part(y + 4 * i, rest, n - i)


def head_bonus(args, thread, n_threads, counter):
    """y[t, h] = x[t, h] + v[t, h] * (r[t, h] . k[t, h] * factors[h]) (`HEAD_BONUS`)."""
    n_rows = row_count(args)
    x, ldx, v, ldv = (load_i64(args + 16), load_i64(args + 24), load_i64(args + 32),
                      load_i64(args + 40))  # fmt: skip
    reader, ldr, k, ldk = (load_i64(args + 48), load_i64(args + 56), load_i64(args + 64),
                           load_i64(args + 72))  # fmt: skip
    factors, y, ldy, n_heads = (load_i64(args + 80), load_i64(args + 88), load_i64(args + 96),
                                load_i64(args + 104))  # fmt: skip
    dk, dv = load_i64(args + 112), load_i64(args + 120)
    row, end = next_rows(counter, n_rows, n_heads * (dk + dv))
    while row < end:
        for t in range(row, end):
            for h in range(n_heads):
                at = 4 * h * dk
                share = _product(reader + t * ldr + at, k + t * ldk + at, factors + at, dk)
                at = 4 * h * dv
                _add(x + t * ldx + at, v + t * ldv + at, share, y + t * ldy + at, dv)
        row, end = next_rows(counter, n_rows, n_heads * (dk + dv))
