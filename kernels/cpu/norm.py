"""Normalisation of rows.

Sums run over four vectors of lanes in ascending columns, then a fixed pairwise tree, so the bits
of a row depend on that row alone. Per column: two reads and one write (12 bytes, the second read
from the first-level cache), 2 or 3 operations.
"""

from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.rows import next_rows, row_count
from jitllm.kernels.cpu.vmath import ONE, ZERO, as_f32, keep_part, load_part, store_part
from jitllm.kernels.simd import (
    fma,
    load_f32,
    load_f32x16,
    load_i64,
    reduce_add,
    splat_f32,
    sqrt,
    store_f32x16,
)


@inline
def row_sum(x, width):
    """Return the sum over one row."""
    a = b = c = d = splat_f32(ZERO)
    i = 0
    while i + 64 <= width:
        a = a + load_f32x16(x + 4 * i)
        b = b + load_f32x16(x + 4 * i + 64)
        c = c + load_f32x16(x + 4 * i + 128)
        d = d + load_f32x16(x + 4 * i + 192)
        i += 64
    while i < width:
        a = a + load_part(x + 4 * i, width - i)
        i += 16
    return reduce_add((a + b) + (c + d))


@inline
def _add_square(acc, x, mean):
    v = x - mean
    return fma(v, v, acc)


@inline
def sum_squares(x, width, mean):
    """Sum (x - mean)^2 over one row; `mean` is a splat."""
    a = b = c = d = splat_f32(ZERO)
    i = 0
    while i + 64 <= width:
        a = _add_square(a, load_f32x16(x + 4 * i), mean)
        b = _add_square(b, load_f32x16(x + 4 * i + 64), mean)
        c = _add_square(c, load_f32x16(x + 4 * i + 128), mean)
        d = _add_square(d, load_f32x16(x + 4 * i + 192), mean)
        i += 64
    while i < width:
        # Lanes past the end add zero.
        a = _add_square(a, load_part(x + 4 * i, width - i), keep_part(mean, width - i))
        i += 16
    return reduce_add((a + b) + (c + d))


@inline
def inverse_root(total, width, eps):
    """Return 1 / sqrt(total / width + eps) in every lane."""
    return splat_f32(ONE) / sqrt(splat_f32(total) / splat_f32(as_f32(width)) + splat_f32(eps))


@inline
def _scale(x, w, y, width, factor):
    """y = x * factor * w; w = 0: y = x * factor."""
    i = 0
    while i + 16 <= width:
        v = load_f32x16(x + 4 * i) * factor
        if w != 0:
            v = v * load_f32x16(w + 4 * i)
        store_f32x16(y + 4 * i, v)
        i += 16
    if i < width:
        v = load_part(x + 4 * i, width - i) * factor
        if w != 0:
            v = v * load_part(w + 4 * i, width - i)
        store_part(y + 4 * i, v, width - i)


def rms_norm(args, thread, n_threads, counter):
    """y = x / sqrt(mean(x^2) + eps) * w over each `group` columns (`abi.RMS_NORM`)."""
    n_rows = row_count(args)
    x, ldx, w = load_i64(args + 16), load_i64(args + 24), load_i64(args + 32)
    y, ldy = load_i64(args + 40), load_i64(args + 48)
    width, group, eps = load_i64(args + 56), load_i64(args + 64), load_f32(args + 72)
    row, end = next_rows(counter, n_rows, width)
    while row < end:
        for r in range(row, end):
            for start in range(0, 4 * width, 4 * group):
                source = x + r * ldx + start
                total = sum_squares(source, group, splat_f32(ZERO))
                factor = inverse_root(total, group, eps)
                _scale(source, w, y + r * ldy + start, group, factor)
        row, end = next_rows(counter, n_rows, width)


@inline
def centre(x, w, b, y, width, mean, factor):
    """y = (x - mean) * factor * w + b; b = 0: nothing added."""
    one, zero = splat_f32(ONE), splat_f32(ZERO)
    for i in range(0, width, 16):
        n = width - i
        scale, shift = one, zero
        if w != 0:
            scale = load_part(w + 4 * i, n)
        if b != 0:
            shift = load_part(b + 4 * i, n)
        v = (load_part(x + 4 * i, n) - mean) * factor
        store_part(y + 4 * i, fma(v, scale, shift), n)


def layer_norm(args, thread, n_threads, counter):
    """y = (x - mean) / sqrt(var + eps) * w + b (`abi.LAYER_NORM`); w or b may be 0."""
    n_rows = row_count(args)
    x, ldx, w, b = (load_i64(args + 16), load_i64(args + 24), load_i64(args + 32),
                    load_i64(args + 40))  # fmt: skip
    y, ldy, width, eps = (load_i64(args + 48), load_i64(args + 56), load_i64(args + 64),
                          load_f32(args + 72))  # fmt: skip
    row, end = next_rows(counter, n_rows, width)
    while row < end:
        for r in range(row, end):
            source = x + r * ldx
            mean = splat_f32(row_sum(source, width)) / splat_f32(as_f32(width))
            factor = inverse_root(sum_squares(source, width, mean), width, eps)
            centre(source, w, b, y + r * ldy, width, mean, factor)
        row, end = next_rows(counter, n_rows, width)
