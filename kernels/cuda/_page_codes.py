"""Quantized parts of a page as right sides of products: codes become float16, two at a time.

A code, put into the low bits of 1024, is 1024 plus the code in float16; less 1024 and its centre it
is exact, so that a number is rounded once, when it is scaled. An offset is of the middle code, so
that little is lost when it is added.
A scale that would make numbers larger than float16 is bounded.
"""

import numpy as np

from jitllm.kernels.cuda._lookup import lookup
from jitllm.kernels.cuda._numbers import code_places
from jitllm.kernels.cuda._run import PAGE
from jitllm.kernels.gpu.vocabulary import (
    add_f16x2,
    bound_f16x2,
    inline,
    load_i32,
    load_i32x2,
    load_u8,
    load_u16,
    multiply_f16x2,
    permute_bytes,
    registers_i32,
    to_i32,
    unroll,
)

NIBBLES, ONES, SIGNS, BIASED = 0x0F0F0F0F, 0x01010101, 0x80808080, 0x64646464
LARGEST = 65504  # of float16
SPREAD = 0x204081  # a product with it has bits 0 to 3 of a number as bits 0, 8, 16 and 24, and more


def _pair(x):
    """Return the word of two float16 of one value."""
    return int(np.float16(x).view(np.uint16)) * 0x10001


def _magnitude(fmt):
    """Return a power of two that no code, less its centre, is beyond."""
    codes = np.abs([x - fmt.center for x in (0, (1 << fmt.bits) - 1)]) if not fmt.table else 128
    return 1 << int(np.max(codes) - 1).bit_length()


def _scaler(fmt):
    """Make bounded(scales, offsets) and scale(low, high, scales..., rows, k).

    The second turns eight codes, bytes of two words, to numbers: row k of `rows`. It has a word of
    two scales, and of two offsets, for each two codes, `step` words apart.
    """
    has_offset, is_byte = fmt.scales == "dm", fmt.bits == 8
    center = 128 if is_byte or fmt.table else fmt.center or 1 << fmt.bits - 1
    less, most = _pair(-1024 - center) - (1 << 32), _magnitude(fmt)
    bound, part, largest = _pair(LARGEST / most), _pair(1 / most), _pair(LARGEST)
    middle, signs = _pair(center), SIGNS if is_byte else 0

    @inline
    def bounded(scales, offsets):
        if has_offset:
            room = add_f16x2(largest, to_i32(offsets | 0x80008000))
            scales = bound_f16x2(scales, multiply_f16x2(room, part))
            return scales, add_f16x2(offsets, multiply_f16x2(scales, middle))
        return bound_f16x2(scales, bound), offsets

    @inline
    def numbers(codes, which, scales, offsets):
        x = add_f16x2(permute_bytes(codes, BIASED, which), less)
        x = multiply_f16x2(x, scales)
        return add_f16x2(x, offsets) if has_offset else x

    @inline
    def scale(low, high, step, scales, offsets, rows, k):
        low, high = to_i32(low ^ signs), to_i32(high ^ signs)
        rows[4 * k] = numbers(low, 0x4140, scales[0], offsets[0])
        rows[4 * k + 1] = numbers(low, 0x4342, scales[step], offsets[step])
        rows[4 * k + 2] = numbers(high, 0x4140, scales[2 * step], offsets[2 * step])
        rows[4 * k + 3] = numbers(high, 0x4342, scales[3 * step], offsets[3 * step])

    return bounded, scale


def _decoder(fmt):
    """Make f(codes, upper): the codes of four bytes' low or, if `upper`, high halves, as bytes."""
    if not fmt.table:

        @inline
        def nibbles(codes, upper):
            return codes >> (upper << 2) & NIBBLES

        return nibbles
    find = lookup([entry + 128 for entry in fmt.table])

    @inline
    def entries(codes, upper):
        return find(codes, upper)

    return entries


# --- keys ----------------------------------------------------------------------------------------


@inline
def _halves(at, out, first):
    """Read the float16 of eight keys; the high bytes lie in the row behind the low ones."""
    low, high = load_i32x2(at), load_i32x2(at + PAGE)
    for i in unroll(2):
        out[first + 2 * i] = permute_bytes(low[i], high[i], 0x5140)
        out[first + 2 * i + 1] = permute_bytes(low[i], high[i], 0x7362)


def quantized_key_reader(fmt):
    """Make what `key_reader` makes."""
    upper_at, codes_at, has_offset, five = code_places(fmt)
    (bounded, scale), is_byte, n_bytes = _scaler(fmt), fmt.bits == 8, fmt.block_bytes
    decode = _decoder(fmt)

    @inline
    def begin(keys, d, c, scales):
        at = keys + PAGE * n_bytes * (d >> 5) + 8 * c
        _halves(at, scales, 0)
        if has_offset:
            _halves(at + 2 * PAGE, scales, 4)
        for i in unroll(4):
            scales[i], scales[4 + i] = bounded(scales[i], scales[4 + i])

    @inline
    def read(keys, d, part, c, r, scales, rows):
        at, offsets = keys + PAGE * n_bytes * (d >> 5) + 8 * c, registers_i32(4)
        for i in unroll(4):
            offsets[i] = scales[4 + i]
        if five:
            fifths = load_i32x2(at + PAGE * (upper_at + 2 * part + (r >> 1)))
        for k in unroll(4):
            if is_byte:
                low, high = load_i32x2(at + PAGE * (codes_at + 16 * part + 4 * r + k))
            else:
                low, high = load_i32x2(at + PAGE * (codes_at + 4 * r + k))
                low, high = decode(low, part), decode(high, part)
            if five:
                shift = 4 * (r & 1) + k
                low |= (fifths[0] >> shift & ONES) << 4
                high |= (fifths[1] >> shift & ONES) << 4
            scale(low, high, 1, scales, offsets, rows, k)

    return read, begin, 32


# --- values --------------------------------------------------------------------------------------


def _words_at(fmt):
    """Make f(at): two words; blocks of some types lie at even addresses only."""
    if fmt.block_bytes % 4 == 0:

        @inline
        def aligned(at):
            return load_i32(at), load_i32(at + 4)

        return aligned

    @inline
    def even(at):
        low, high = load_u16(at) | load_u16(at + 2) << 16, load_u16(at + 4) | load_u16(at + 6) << 16
        return to_i32(low), to_i32(high)

    return even


@inline
def _fifths(bits):
    """Return the four lowest bits as bits 4 of bytes."""
    return ((bits & 15) * SPREAD & ONES) << 4


@inline
def _twice(at):
    """Return two times the float16 at an address."""
    x = to_i32(load_u16(at))
    return permute_bytes(x, x, 0x1010)


def quantized_value_row(fmt):
    """Make what `value_row` makes."""
    upper_at, codes_at, has_offset, five = code_places(fmt)
    (bounded, scale), is_byte, n_bytes = _scaler(fmt), fmt.bits == 8, fmt.block_bytes
    words, decode = _words_at(fmt), _decoder(fmt)

    @inline
    def row(at, column, rows, k):
        at, first = at + n_bytes * (column >> 5), column & 31
        scales, offsets = registers_i32(1), registers_i32(1)
        scales[0] = _twice(at)
        if has_offset:
            offsets[0] = _twice(at + 2)
        scales[0], offsets[0] = bounded(scales[0], offsets[0])
        if is_byte:
            low, high = words(at + codes_at + first)
        else:
            low, high = words(at + codes_at + (first & 15))
            low, high = decode(low, first >> 4), decode(high, first >> 4)
        if five:
            bits = load_u8(at + upper_at + (first >> 3))
            low, high = low | _fifths(bits), high | _fifths(bits >> 4)
        scale(low, high, 0, scales, offsets, rows, k)

    return row
