"""Rows of a cache into blocks of 32 numbers, one block at a time: the bytes of `cache_types`.

A block is little beside the products that made its numbers, so this is scalar code.
"""

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from jitllm.kernels import formats
from jitllm.kernels.cpu.half import narrow, store_words
from jitllm.kernels.cpu.inline import helper, inline
from jitllm.kernels.simd import (
    F32,
    I32,
    f32x16,
    load_f32,
    load_u8,
    load_u16,
    splat_f32,
    store_u8,
    store_u16,
)

BLOCK = 32
ZERO, ONE, HALF = np.float32(0), np.float32(1), np.float32(0.5)
LIMIT = np.float32(127)
BELOW_HALF = np.nextafter(HALF, ZERO)
SMALLEST = np.float32(1e-37)  # of scales that have an inverse


@inline
def _inverse(scale):
    return ONE / scale if abs(scale) > SMALLEST else ZERO


@inline
def _store_half(at, x, scratch):
    store_words(scratch, narrow(splat_f32(x)))
    store_u16(at, load_u16(scratch))


@inline
def _whole(x, top):
    """Return x without its fraction, from 0 to `top`; `top` for NaN."""
    if not x < top:
        x = top
    return np.int32(x) if x > ZERO else np.int32(0)


@inline
def _peak(x):
    """Return the first of the 32 numbers of the largest size."""
    best = load_f32(x)
    for i in range(1, BLOCK):
        y = load_f32(x + 4 * i)
        if abs(y) > abs(best):
            best = y
    return best


def _signed_bytes(fmt):
    """Q8_0: the largest size is 127, codes are nearest whole numbers, halves away from zero."""

    @inline
    def encode(x, block, codes, scratch):
        scale = abs(_peak(x)) / LIMIT
        inverse = _inverse(scale)
        for i in range(BLOCK):
            y = load_f32(x + 4 * i) * inverse
            code = _whole(abs(y) + BELOW_HALF, LIMIT)
            store_u8(codes + i, -code if y < ZERO else code)
        _store_half(block, scale, scratch)

    return encode


def _shifted(fmt):
    """Codes around a center; the number of the largest size gets code 0."""
    center, top = np.float32(fmt.center), np.float32((1 << fmt.bits) - 1)

    @inline
    def encode(x, block, codes, scratch):
        scale = _peak(x) / -center
        inverse = _inverse(scale)
        for i in range(BLOCK):
            store_u8(codes + i, _whole(load_f32(x + 4 * i) * inverse + (center + HALF), top))
        _store_half(block, scale, scratch)

    return encode


def _ranged(fmt):
    """Codes from the least number to the greatest."""
    top = np.float32((1 << fmt.bits) - 1)

    @inline
    def encode(x, block, codes, scratch):
        low = high = load_f32(x)
        for i in range(1, BLOCK):
            y = load_f32(x + 4 * i)
            if y < low:
                low = y
            if y > high:
                high = y
        scale = (high - low) / top
        inverse = _inverse(scale)
        for i in range(BLOCK):
            store_u8(codes + i, _whole((load_f32(x + 4 * i) - low) * inverse + HALF, top))
        _store_half(block, scale, scratch)
        _store_half(block + 2, low, scratch)

    return encode


def _table(entries):
    """Make nearest(x), the place of the entry of a rising table nearest to x, and entry(place)."""
    middles = [(a + b) / 2 for a, b in zip(entries[1:], entries[:-1], strict=True)]
    levels = ir.Constant(f32x16.ir, [float(x) for x in entries])

    @intrinsic
    def nearest(typing_context, x):
        def codegen(context, builder, sig, args):
            place = ir.Constant(I32, 0)
            for middle in middles:
                above = builder.fcmp_ordered("<", ir.Constant(F32, middle), args[0])
                place = builder.add(place, builder.zext(above, I32))
            return place

        return types.int32(types.float32), codegen

    @intrinsic
    def entry(typing_context, place):
        def codegen(context, builder, sig, args):
            return builder.extract_element(levels, args[0])

        return types.float32(types.int32), codegen

    return nearest, entry


def _from_table(fmt):
    """Codes of the nearest entries, and the scale that fits them best (least squares)."""
    nearest, entry = _table(fmt.table)
    first = np.float32(fmt.table[0])

    @inline
    def encode(x, block, codes, scratch):
        inverse, cross, square = _inverse(_peak(x) / first), ZERO, ZERO
        for i in range(BLOCK):
            y = load_f32(x + 4 * i)
            code = nearest(y * inverse)
            level = entry(code)
            store_u8(codes + i, code)
            part = y * y * level
            cross = cross + part * y
            square = square + part * level
        _store_half(block, cross / square if square > ZERO else ZERO, scratch)

    return encode


def _packer(fmt):
    """Make put(codes, at): codes of fmt's bits, one a byte, as they lie in the block."""

    @inline
    def put_bytes(codes, at):
        for i in range(BLOCK):
            store_u8(at + i, load_u8(codes + i))

    @inline
    def put_nibbles(codes, at):
        for i in range(16):
            low, high = np.int32(load_u8(codes + i)), np.int32(load_u8(codes + 16 + i))
            store_u8(at + i, (low & 15) | (high & 15) << 4)

    @inline
    def put_five(codes, at):
        for i in range(4):
            bits = np.int32(0)
            for j in range(8):
                bits |= (np.int32(load_u8(codes + 8 * i + j)) >> 4) << j
            store_u8(at + i, bits)
        put_nibbles(codes, at + 4)

    return {8: put_bytes, 5: put_five, 4: put_nibbles}[fmt.bits]


def block_writer(kind):
    """Make write(x, block, work): 32 floats at x as a block of type `kind`; `work` is 64 bytes."""
    fmt = formats.get(kind.upper())
    if fmt.table:
        encode = _from_table(fmt)
    elif fmt.scales == "dm":
        encode = _ranged(fmt)
    else:
        encode = _signed_bytes(fmt) if fmt.bits == 8 else _shifted(fmt)
    put, header = _packer(fmt), 4 if fmt.scales == "dm" else 2

    @helper
    def write(x, block, work):
        encode(x, block, work, work + 32)
        put(work, block + header)

    return write
