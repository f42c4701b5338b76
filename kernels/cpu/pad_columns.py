"""Columns of one number in front of others: 8 bytes an element, memory speed."""

from jitllm.kernels.cpu.rows import next_rows, row_count
from jitllm.kernels.cpu.vmath import load_part, store_part
from jitllm.kernels.simd import load_f32, load_i64, splat_f32


def pad_columns(args, thread, n_threads, counter):
    """y[t] = (number, ..., number, x[t]); words: rows x ldx y ldy width before number."""
    n_rows = row_count(args)
    x, ldx, y, ldy = (load_i64(args + 16), load_i64(args + 24), load_i64(args + 32),
                      load_i64(args + 40))  # fmt: skip
    width, before = load_i64(args + 48), load_i64(args + 56)
    number = splat_f32(load_f32(args + 64))
    row, end = next_rows(counter, n_rows, before + width)
    while row < end:
        for r in range(row, end):
            target = y + r * ldy
            for i in range(0, before, 16):
                store_part(target + 4 * i, number, before - i)
            target += 4 * before
            for i in range(0, width, 16):
                store_part(target + 4 * i, load_part(x + r * ldx + 4 * i, width - i), width - i)
        row, end = next_rows(counter, n_rows, before + width)
