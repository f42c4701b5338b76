"""Sums of squares of the rows that each expert gets."""

from jitllm.kernels import abi
from jitllm.kernels.atomics import atomic_add
from jitllm.kernels.cpu.inline import helper
from jitllm.kernels.simd import fma, load_f32x16, load_i32, load_i64, store_f32x16, store_i32

SPAN = 256  # bytes of a row that a thread takes at once; it does so for all rows


def square_sums(*, tile_rows: int):
    """Return the kernel of `SQUARE_SUMS` (`cpu_ops`) for tiles of `tile_rows` rows."""

    @helper
    def add_row(x, sums, start, stop):
        for i in range(start, stop, 64):
            value = load_f32x16(x + i)
            store_f32x16(sums + i, fma(value, value, load_f32x16(sums + i)))

    def add_squares(args, thread, n_threads, counter):
        run = load_i64(args)
        n, rows = load_i64(run + 8 * abi.N_SLOTS), tile_rows
        if load_i64(run + 8 * abi.N_TOKENS) == 1:
            rows = 1
        x, ldx, index = load_i64(args + 8), load_i64(args + 16), load_i64(args + 24)
        experts, sums, lds = load_i64(args + 32), load_i64(args + 40), load_i64(args + 48)
        counts, width = load_i64(args + 56), load_i64(args + 64)
        start = SPAN * atomic_add(counter, 1)
        while start < 4 * width:
            stop = min(start + SPAN, 4 * width)
            for slot in range(n):
                if load_i32(index + 4 * slot) >= 0:
                    expert = load_i32(experts + 4 * (slot // rows))
                    add_row(x + slot * ldx, sums + expert * lds, start, stop)
                    if start == 0:
                        at = counts + 4 * expert
                        store_i32(at, load_i32(at) + 1)
            start = SPAN * atomic_add(counter, 1)

    return add_squares
