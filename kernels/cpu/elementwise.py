"""Operations on single elements and copies of rows: 8 or 12 bytes an element, memory speed.

Whole vectors are read and written, the padding of the rows included.
"""

from jitllm.kernels import abi
from jitllm.kernels.cpu import vmath
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.rows import next_rows, row_count
from jitllm.kernels.simd import (
    load_f32,
    load_f32x16,
    load_i32,
    load_i64,
    splat_f32,
    store_f32x16,
)


@inline
def _add(a, b):
    return a + b


@inline
def _mul(a, b):
    return a * b


@inline
def _scaled(x, scale):
    return x * scale


@inline
def _capped(x, cap):
    return cap * vmath.tanh(x / cap)


def _binary(function):
    def kernel(args, thread, n_threads, counter):
        n_rows = row_count(args)
        a, lda, b, ldb = (load_i64(args + 16), load_i64(args + 24), load_i64(args + 32),
                          load_i64(args + 40))  # fmt: skip
        y, ldy, width = load_i64(args + 48), load_i64(args + 56), load_i64(args + 64)
        row, end = next_rows(counter, n_rows, width)
        while row < end:
            for r in range(row, end):
                for i in range(0, 4 * width, 64):
                    left, right = load_f32x16(a + r * lda + i), load_f32x16(b + r * ldb + i)
                    store_f32x16(y + r * ldy + i, function(left, right))
            row, end = next_rows(counter, n_rows, width)

    return kernel


def _with_number(function):
    def kernel(args, thread, n_threads, counter):
        n_rows = row_count(args)
        x, ldx, y, ldy = (load_i64(args + 16), load_i64(args + 24), load_i64(args + 32),
                          load_i64(args + 40))  # fmt: skip
        width, number = load_i64(args + 48), splat_f32(load_f32(args + 56))
        row, end = next_rows(counter, n_rows, width)
        while row < end:
            for r in range(row, end):
                for i in range(0, 4 * width, 64):
                    value = function(load_f32x16(x + r * ldx + i), number)
                    store_f32x16(y + r * ldy + i, value)
            row, end = next_rows(counter, n_rows, width)

    return kernel


add = _binary(_add)  # y = a + b (`abi.ADD`)
mul = _binary(_mul)  # y = a * b (`abi.MUL`)
scale = _with_number(_scaled)  # y = x * scale (`abi.SCALE`)
soft_cap = _with_number(_capped)  # y = cap * tanh(x / cap) (`abi.SOFT_CAP`)


def select_rows(args, thread, n_threads, counter):
    """y[o] = x[output_rows[o]] (`abi.SELECT_ROWS`)."""
    run = load_i64(args)
    n_rows, chosen = load_i64(run + 8 * abi.N_OUTPUTS), load_i64(run + 8 * abi.OUTPUT_ROWS)
    x, ldx, y, ldy = (load_i64(args + 8), load_i64(args + 16), load_i64(args + 24),
                      load_i64(args + 32))  # fmt: skip
    width = load_i64(args + 40)
    row, end = next_rows(counter, n_rows, width)
    while row < end:
        for r in range(row, end):
            source = x + load_i32(chosen + 4 * r) * ldx
            for i in range(0, 4 * width, 64):
                store_f32x16(y + r * ldy + i, load_f32x16(source + i))
        row, end = next_rows(counter, n_rows, width)


def scale_rows(args, thread, n_threads, counter):
    """y[t] = x[t] * factors[t] (`abi.SCALE_ROWS`)."""
    n_rows = load_i64(load_i64(args) + 8 * abi.N_TOKENS)
    x, ldx, factors = load_i64(args + 8), load_i64(args + 16), load_i64(args + 24)
    y, ldy, width = load_i64(args + 32), load_i64(args + 40), load_i64(args + 48)
    row, end = next_rows(counter, n_rows, width)
    while row < end:
        for r in range(row, end):
            factor = splat_f32(load_f32(factors + 64 * r))
            for i in range(0, 4 * width, 64):
                store_f32x16(y + r * ldy + i, load_f32x16(x + r * ldx + i) * factor)
        row, end = next_rows(counter, n_rows, width)
