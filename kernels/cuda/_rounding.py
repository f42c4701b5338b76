"""Rounds activations to int8 with a scale for every 32 columns of a row.

The numbers are those of `kernels.cpu.quantize`, and so are the reasons. Of R rows with G groups of
32 columns the result has

    codes    int8 [G][R][32]
    heads    [G][R] of 8 bytes: the scale, float32, and the sums of the first and the last 16 codes,
             int16 each

so that what a product needs of a group is 32 and 8 bytes, and rows of a group lie together. It
takes 40 bytes for every 32 columns; where R is the number of rows of a run, not of a place.
"""

import numpy as np

from jitllm.kernels.cuda._layout import GROUP
from jitllm.kernels.gpu.vocabulary import (
    as_f32,
    as_i32,
    inline,
    maximum,
    shuffle_xor_i32,
    store_f32,
    store_i32,
    to_i32,
    unroll,
)

HEAD_BYTES = 8
MAGIC = np.float32(12582912.0)  # 1.5 * 2^23: adding it rounds to an integer, ties to even
MAGIC_BITS = 0x4B400000
TINY = np.float32(1e-30)  # below it 1 / scale overflows; such groups become zero
ZERO, ONE, LIMIT = np.float32(0), np.float32(1), np.float32(127)


@inline
def _size(x):
    """Return |x| as an integer that orders like it, NaN above all."""
    return as_i32(x) & 0x7FFFFFFF


@inline
def _code(x, inverse):
    return to_i32(as_i32(x * inverse + MAGIC) - MAGIC_BITS)


@inline
def store_rounded(a, b, c, d, q, row, count, at, width):
    """Round four columns of a row, of `count` rows, from column `at` on, and store them at q.

    All threads of a warp take part, eight for the 32 columns of a scale. Columns behind `width`
    are zero, and are not stored.
    """
    top = to_i32(maximum(maximum(_size(a), _size(b)), maximum(_size(c), _size(d))))
    for i in unroll(3):
        top = to_i32(maximum(top, shuffle_xor_i32(top, 1 << i)))
    scale = inverse = ZERO
    if not as_f32(top) <= TINY:
        scale = as_f32(top) / LIMIT
        inverse = ONE / scale
    e, f, g, h = _code(a, inverse), _code(b, inverse), _code(c, inverse), _code(d, inverse)
    half = to_i32(e + f + g + h)
    half = to_i32(half + shuffle_xor_i32(half, 1))
    half = to_i32(half + shuffle_xor_i32(half, 2))
    other = shuffle_xor_i32(half, 4)
    if at < width:
        place = (at >> 5) * count + row
        word = e & 255 | (f & 255) << 8 | (g & 255) << 16 | (h & 255) << 24
        store_i32(q + GROUP * place + (at & 31), to_i32(word))
        if at & 31 == 0:
            head = q + width * count + HEAD_BYTES * place
            store_f32(head, scale)
            store_i32(head + 4, to_i32(half & 0xFFFF | other << 16))
