"""Bounds of single elements: 8 bytes an element, memory speed."""

from jitllm.kernels.cpu.rows import next_rows, row_count
from jitllm.kernels.simd import (
    load_f32,
    load_f32x16,
    load_i64,
    splat_f32,
    store_f32x16,
    where_gt,
    where_lt,
)


def clamp(args, thread, n_threads, counter):
    """y = min(max(x, -bound), bound); words: rows x ldx y ldy width bound. NaN stays NaN."""
    n_rows = row_count(args)
    x, ldx, y, ldy = (load_i64(args + 16), load_i64(args + 24), load_i64(args + 32),
                      load_i64(args + 40))  # fmt: skip
    width, high = load_i64(args + 48), splat_f32(load_f32(args + 56))
    low = splat_f32(-load_f32(args + 56))
    row, end = next_rows(counter, n_rows, width)
    while row < end:
        for r in range(row, end):
            for i in range(0, 4 * width, 64):
                v = load_f32x16(x + r * ldx + i)
                v = where_gt(v, high, high, v)
                store_f32x16(y + r * ldy + i, where_lt(v, low, low, v))
        row, end = next_rows(counter, n_rows, width)
