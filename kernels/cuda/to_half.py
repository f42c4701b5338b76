"""Rounds activations to float16 for tensor cores, with a power of two for each row.

The largest number of a row becomes one from 2^13 to 2^14, so that nothing is too large, and what is
2^-28 of it or more keeps 11 bits. Of R rows with G groups of 32 columns the result has

    numbers     float16 [G][R][32]: for each of four threads eight columns, see `order`
    factors     float32 [R], by which products are to be multiplied

so that the eight numbers that a thread of `matmul_half` needs are 16 bytes. Reads 4 bytes a column
twice, the second time from a cache, and writes 2.
"""

import numpy as np

from jitllm.kernels.cuda._reduce import group_max
from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    as_f32,
    as_i32,
    fabs,
    group_y,
    inline,
    load_f32,
    load_u32,
    maximum,
    pack_f16,
    registers_f32,
    store_f32,
    store_i32x4,
    thread,
    to_i32,
    unroll,
)

THREADS = 256
GROUP, ROW_BYTES = 32, 64
EXPONENT_BITS, BIAS = 23, 254
PAIRED = (0, 2, 1, 3, 4, 6, 5, 7)
TOP = 13  # exponent of the largest number, once divided
ZERO, ONE = np.float32(0), np.float32(1)


@inline
def _largest(x, width):
    """Return a thread's part of the largest size of a row."""
    top = ZERO
    for i in range(thread(), width, THREADS):
        top = maximum(top, fabs(load_f32(x + 4 * i)))
    return top


def to_half(order):
    """Make the kernel for rows of `width` columns; columns behind the last are zero.

    Thread t has of 32 columns those from 8 t on, in the order `PAIRED`, or, if `order` is 1,
    columns t, t + 4 ... t + 28.
    Grid: (1, rows). `h` gets ceil(width / 32) * 64 + 4 bytes for each of the rows.
    """
    largest = group_max(THREADS)

    def kernel(rows: A, x: A, h: A, ldx: U, width: U):
        row, count, groups = group_y(), load_u32(rows), width + GROUP - 1 >> 5
        if row >= count:
            return
        x += 4 * row * ldx
        exponent = (as_i32(largest(_largest(x, width))) >> EXPONENT_BITS) - TOP
        factor = inverse = ONE
        if 0 < exponent < BIAS - TOP:
            factor = as_f32(to_i32(exponent << EXPONENT_BITS))
            inverse = as_f32(to_i32(BIAS - exponent << EXPONENT_BITS))
        if thread() == 0:
            store_f32(h + groups * count * ROW_BYTES + 4 * row, factor)
        own = registers_f32(8)
        for piece in range(thread(), 4 * groups, THREADS):
            first = (piece >> 2) * GROUP + (piece & 3) * (1 if order else 8)
            for i in unroll(8):
                column = first + (4 * i if order else PAIRED[i])
                own[i] = load_f32(x + 4 * column) if column < width else ZERO
            at = h + ((piece >> 2) * count + row) * ROW_BYTES + 16 * (piece & 3)
            words = (
                pack_f16(own[0] * inverse, own[1] * inverse),
                pack_f16(own[2] * inverse, own[3] * inverse),
                pack_f16(own[4] * inverse, own[5] * inverse),
                pack_f16(own[6] * inverse, own[7] * inverse),
            )
            store_i32x4(at, words)

    return kernel
