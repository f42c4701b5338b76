"""Weights as float16 for tensor cores, pairs of columns in words.

Makers return the words that load(matrix, group, k, quad, t, r) fills with 32 columns of four rows,
it, and weight(r, w): words of pairs of columns, [pair][row], in the order that `to_half` keeps.
"""

import numpy as np

from jitllm.kernels import formats, packed
from jitllm.kernels.cuda._codes import FLIP
from jitllm.kernels.cuda._packed import QUAD, group_loader, reader
from jitllm.kernels.cuda._words import (
    high_twice,
    least_u32,
    low_twice,
    mul_f16x2,
    scaled_f16x2,
    sub_f16x2,
)
from jitllm.kernels.gpu.vocabulary import (
    as_f32,
    inline,
    lane,
    load_i32x2,
    pack_f16,
    permute_bytes,
    stream_i32x4,
    to_i32,
    unroll,
)

PAIRS = 4  # of columns that a thread has, of 32
NO_OFFSET = 0x80008000 - (1 << 32)  # -0 twice
# A byte below this one is a float16: the number of the byte, plus BASE.
EXPONENTS, BASE = 0x64646464, 1024
COLUMNS = (0x4240, 0x4341)  # bytes 0 and 2, or 1 and 3, of four, each below an exponent
ROWS_OF = (0x4140, 0x4342)  # bytes 0 and 1, or 2 and 3


def _twice(value):
    """Return the word of two float16 numbers."""
    bits = int(np.float16(value).view(np.uint16))
    word = bits | bits << 16
    return word - (word >> 31 << 32)


def numbers(name):
    """Float formats: thread t has columns t, t + 4 ... t + 28: a load is 128 bytes together."""
    size, column_bytes = formats.get(name).block_bytes, packed.unit_bytes(name)
    joined = {"F16": _join_f16, "BF16": _join_bf16, "F32": _join_f32}[name]

    @inline
    def load(matrix, group, k, quad, t, r):
        matrix += QUAD * size * quad
        for i in unroll(2 * PAIRS):
            at = matrix + least_u32(32 * group + t + 4 * i, k - 1) * column_bytes
            words = load_i32x2(at) if size == 2 else stream_i32x4(at)
            for j in unroll(size):
                r[size * i + j] = words[j]

    @inline
    def weight(r, w):
        for i in unroll(PAIRS):
            for row in unroll(QUAD):
                w[QUAD * i + row] = joined(r, 2 * i, row)

    return 2 * PAIRS * size, load, weight


@inline
def _join_f16(r, i, row):
    """Return columns i and i + 1 of a row in one word."""
    a, b = r[2 * i + (row >> 1)], r[2 * i + 2 + (row >> 1)]
    return permute_bytes(a, b, 0x7632 if row & 1 else 0x5410)


@inline
def _join_bf16(r, i, row):
    a, b = r[2 * i + (row >> 1)], r[2 * i + 2 + (row >> 1)]
    if row & 1:
        return pack_f16(as_f32(to_i32(a & 0xFFFF0000)), as_f32(to_i32(b & 0xFFFF0000)))
    return pack_f16(as_f32(to_i32(a << 16)), as_f32(to_i32(b << 16)))


@inline
def _join_f32(r, i, row):
    return pack_f16(as_f32(r[4 * i + row]), as_f32(r[4 * i + 4 + row]))


def values(name):
    """Codes: thread t has columns 8 t to 8 t + 7, of which 0 and 2, 1 and 3, ... are pairs.

    Scale and offset are rounded to float16, and so is scale * (code - center) + offset.
    """
    fmt, group_reader = formats.get(name), reader(name)
    scales_of, offsets_of = _scales(fmt, group_reader.scale), _offsets(fmt)
    parts, has_offset = group_reader.parts, offsets_of is not None
    offsets_of, bytes_of = offsets_of or scales_of, group_reader.unsigned_pair
    zero = _twice(BASE + fmt.dot_center)

    @inline
    def weight(r, w):
        t = lane() & 3
        is_last = parts == 2 and t >= 2
        for row in unroll(QUAD):
            scale = _of_row(scales_of(r, is_last, row >> 1), row)
            offset = NO_OFFSET
            if has_offset:
                offset = _of_row(offsets_of(r, is_last, row >> 1), row)
            for i in unroll(PAIRS):
                word = bytes_of(r, i >> 1, row, t)
                word = permute_bytes(word, EXPONENTS, COLUMNS[i & 1])
                w[QUAD * i + row] = scaled_f16x2(sub_f16x2(word, zero), scale, offset)

    return group_reader.pair_words, group_loader(name), weight


@inline
def _of_row(word, row):
    return high_twice(word) if row & 1 else low_twice(word)


# --- f(r, is_last, two): of rows 2 two and 2 two + 1, for the first or the last group ------------


def _scales(fmt, scale_of):
    """Return the scales of two rows in a word."""
    parts = 32 // fmt.group
    subs = {"k_d": 2, "k_dm": 4}.get(fmt.scales, 0)
    small = _small_numbers(fmt.factor, fmt.scales == "k_d")

    @inline
    def whole(r, is_last, two):
        return r[two]

    @inline
    def each(r, is_last, two):
        return r[2 + two] if is_last else r[two]

    @inline
    def product(r, is_last, two):
        return mul_f16x2(r[two], small(r[subs + parts - 1] if is_last else r[subs], two))

    @inline
    def power(r, is_last, two):
        return pack_f16(scale_of(r, 0, 2 * two), scale_of(r, 0, 2 * two + 1))

    return {"k_d": product, "k_dm": product, "d16": each, "e8m0": power}.get(fmt.scales, whole)


def _offsets(fmt):
    """Return the offsets of two rows in a word; None if all are zero."""
    parts = 32 // fmt.group
    mins, negative = 4 + parts, _small_numbers(-1, False)

    @inline
    def whole(r, is_last, two):
        return r[2 + two]

    @inline
    def product(r, is_last, two):
        small = negative(r[mins + parts - 1] if is_last else r[mins], two)
        return mul_f16x2(r[2 + two], small)

    return {"dm": whole, "k_dm": product}.get(fmt.scales)


def _small_numbers(factor, is_signed):
    """Return f(word, two): bytes 2 two and 2 two + 1 of a word times a power of two, exactly."""
    flip, zero = (FLIP, BASE + 128) if is_signed else (0, BASE)
    times, less = _twice(factor), _twice(-factor * zero)

    @inline
    def small(word, two):
        word = permute_bytes(to_i32(word ^ flip), EXPONENTS, ROWS_OF[two])
        return scaled_f16x2(word, times, less)

    return small
