"""Blocks of 32 numbers of a cache, one by a warp whose lanes have a number each.

The bytes are those of `kernels.cache_types`, sums have its order.
"""

import numpy as np

from jitllm.kernels import formats
from jitllm.kernels.cuda._numbers import entry_of
from jitllm.kernels.gpu.vocabulary import (
    fabs,
    inline,
    lane,
    pack_f16,
    shuffle_f32,
    shuffle_i32,
    shuffle_xor_f32,
    shuffle_xor_i32,
    store_u8,
    to_f32,
    to_i32,
    unroll,
    warp_max,
)

BLOCK = 32
ZERO, ONE, HALF = np.float32(0), np.float32(1), np.float32(0.5)
LIMIT, BELOW_HALF = np.float32(127), np.nextafter(np.float32(0.5), np.float32(0))
SMALLEST = np.float32(1e-37)  # of scales that have an inverse


@inline
def _inverse(scale):
    return ONE / scale if fabs(scale) > SMALLEST else ZERO


@inline
def _whole(x, top):
    """Return x without its fraction, from 0 to `top`; `top` for NaN."""
    if not x < top:
        x = top
    return to_i32(x) if x > ZERO else to_i32(0)


@inline
def _peak(x):
    """Return the first number of the largest size."""
    best, place = x, to_i32(lane())
    for i in unroll(5):
        other, at = shuffle_xor_f32(best, 16 >> i), shuffle_xor_i32(place, 16 >> i)
        if fabs(other) > fabs(best) or (fabs(other) == fabs(best) and at < place):
            best, place = other, at
    return best


def _signed_bytes(fmt):
    """Q8_0: the largest size is 127, codes are nearest whole numbers, halves away from zero."""

    @inline
    def encode(x):
        scale = warp_max(fabs(x)) / LIMIT
        y = x * _inverse(scale)
        code = _whole(fabs(y) + BELOW_HALF, LIMIT)
        return to_i32(-code) if y < ZERO else code, scale, ZERO

    return encode


def _shifted(fmt):
    """Codes around a center; the number of the largest size gets code 0."""
    center, top = np.float32(fmt.center), np.float32((1 << fmt.bits) - 1)
    shift = center + HALF

    @inline
    def encode(x):
        scale = _peak(x) / -center
        return _whole(x * _inverse(scale) + shift, top), scale, ZERO

    return encode


def _ranged(fmt):
    """Codes from the least number to the greatest."""
    top = np.float32((1 << fmt.bits) - 1)

    @inline
    def encode(x):
        low, high = -warp_max(-x), warp_max(x)
        scale = (high - low) / top
        return _whole((x - low) * _inverse(scale) + HALF, top), scale, low

    return encode


def _nearest(entries):
    """Make nearest(x): the place of the entry of a rising table of 16 that is nearest to x."""
    entry = entry_of(entries)

    @inline
    def nearest(x):
        """Twice x is compared with the sums of two neighbours, which are whole numbers."""
        place = 0
        for i in unroll(15):
            if to_f32(entry(i) + entry(i + 1)) < x + x:
                place += 1
        return to_i32(place)

    return nearest


def _from_table(fmt):
    """Codes of the nearest entries, and the scale that fits them best (least squares)."""
    nearest, entry, first = _nearest(fmt.table), entry_of(fmt.table), np.float32(fmt.table[0])

    @inline
    def encode(x):
        code = nearest(x * _inverse(_peak(x) / first))
        level = to_f32(entry(code))
        part, cross, square = x * x * level, ZERO, ZERO
        for i in unroll(BLOCK):
            cross += shuffle_f32(part * x, i)
            square += shuffle_f32(part * level, i)
        return code, cross / square if square > ZERO else ZERO, ZERO

    return encode


@inline
def _put_bytes(code, at, stride):
    store_u8(at + lane() * stride, code)


@inline
def _put_nibbles(code, at, stride):
    high = shuffle_i32(code, lane() + 16 & 31)
    if lane() < 16:
        store_u8(at + lane() * stride, code & 15 | (high & 15) << 4)


@inline
def _put_five(code, at, stride):
    bits = to_i32((code >> 4 & 1) << (lane() & 7))
    for i in unroll(3):
        bits = to_i32(bits | shuffle_xor_i32(bits, 1 << i))
    if lane() & 7 == 0:
        store_u8(at + (lane() >> 3) * stride, bits)
    _put_nibbles(code, at + 4 * stride, stride)


def block_writer(kind):
    """Make write(x, at, stride): the block of type `kind` of a warp's numbers.

    Its bytes lie `stride` apart from `at` on.
    """
    fmt = formats.get(kind.upper())
    if fmt.table:
        encode = _from_table(fmt)
    elif fmt.scales == "dm":
        encode = _ranged(fmt)
    else:
        encode = _signed_bytes(fmt) if fmt.bits == 8 else _shifted(fmt)
    put = {8: _put_bytes, 5: _put_five, 4: _put_nibbles}[fmt.bits]
    header = 4 if fmt.scales == "dm" else 2

    @inline
    def write(x, at, stride):
        code, scale, low = encode(x)
        halves = pack_f16(scale, low)
        if lane() < header:
            store_u8(at + lane() * stride, halves >> 8 * lane() & 255)
        put(code, at + header * stride, stride)

    return write
