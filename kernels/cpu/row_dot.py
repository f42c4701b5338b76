"""Products of rows with one vector, or with other rows.

Sums run over four vectors of lanes in ascending columns, then a fixed pairwise tree, so the bits of
a row depend on that row alone. Per column: 4 bytes of the row, and 4 of the vector, which stays in
the first-level cache.
"""

import numpy as np

from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.rows import next_rows, row_count
from jitllm.kernels.cpu.vmath import ZERO, first_f32, load_part
from jitllm.kernels.simd import (
    fabs,
    fma,
    load_f32,
    load_f32x16,
    load_i64,
    reduce_add,
    splat_f32,
    sqrt,
    store_f32,
    vmax,
    where_gt,
    where_lt,
)

ROOT_MIN = np.float32(1e-6)


@inline
def _product(x, w, width):
    a = b = c = d = splat_f32(ZERO)
    i = 0
    while i + 64 <= width:
        at, weights = x + 4 * i, w + 4 * i
        a = fma(load_f32x16(at), load_f32x16(weights), a)
        b = fma(load_f32x16(at + 64), load_f32x16(weights + 64), b)
        c = fma(load_f32x16(at + 128), load_f32x16(weights + 128), c)
        d = fma(load_f32x16(at + 192), load_f32x16(weights + 192), d)
        i += 64
    while i < width:
        a = fma(load_part(x + 4 * i, width - i), load_part(w + 4 * i, width - i), a)
        i += 16
    return reduce_add((a + b) + (c + d))


def row_dot(args, thread, n_threads, counter):
    """y[t, 0] = x[t] w (`ROW_DOT` of `cpu_ops`)."""
    n_rows = row_count(args)
    x, ldx, w = load_i64(args + 16), load_i64(args + 24), load_i64(args + 32)
    y, ldy, width = load_i64(args + 40), load_i64(args + 48), load_i64(args + 56)
    row, end = next_rows(counter, n_rows, width)
    while row < end:
        for r in range(row, end):
            store_f32(y + r * ldy, _product(x + r * ldx, w, width))
        row, end = next_rows(counter, n_rows, width)


@inline
def _signed_root(d):
    zero = splat_f32(ZERO)
    root = sqrt(vmax(fabs(d), splat_f32(ROOT_MIN)))
    return where_gt(d, zero, root, where_lt(d, zero, zero - root, zero))


def signed_root_dot(args, thread, n_threads, counter):
    """y[t, g] = the signed root of a[t, g] . b[t, g] * scale (`SIGNED_ROOT_DOT` of `cpu_ops`)."""
    n_rows = row_count(args)
    a, lda, b, ldb = (load_i64(args + 16), load_i64(args + 24), load_i64(args + 32),
                      load_i64(args + 40))  # fmt: skip
    y, ldy, width, n_groups = (load_i64(args + 48), load_i64(args + 56), load_i64(args + 64),
                               load_i64(args + 72))  # fmt: skip
    scale = load_f32(args + 80)
    row, end = next_rows(counter, n_rows, width * n_groups)
    while row < end:
        for r in range(row, end):
            for g in range(n_groups):
                at = 4 * g * width
                product = _product(a + r * lda + at, b + r * ldb + at, width) * scale
                root = _signed_root(splat_f32(product))
                store_f32(y + r * ldy + 4 * g, first_f32(root))
        row, end = next_rows(counter, n_rows, width * n_groups)
