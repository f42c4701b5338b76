"""A head's page of a quantized cache as float32, for the products of `attention_tile`.

Keys lie as [bytes of a row][64], so that 16 keys are the lanes of a vector; values lie as
[64][bytes of a row], 16 columns being the lanes. A value is scale * (code - center) + offset, each
step rounded, as the formats define it. Per 16 numbers that is about 6 operations and half a store,
once for all query rows of a tile; what is read is a half (Q8_0) to a quarter of float16.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from jitllm.kernels import formats
from jitllm.kernels.cache_types import PAGE_TOKENS
from jitllm.kernels.cpu.half import widen
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.lookup import lookup
from jitllm.kernels.simd import (
    i8x64,
    i32x16,
    load_i8x16,
    load_u16,
    shift_left,
    shift_right,
    splat_i32,
    store_f32x16,
    to_f32,
    widen_i8,
    widen_u8,
)

PAGE = PAGE_TOKENS


def _meaning(fmt):
    """Make f(codes) -> f32x16: what codes (i32x16) stand for before they are scaled."""
    center = 0 if fmt.bits == 8 else fmt.center  # codes of 8 bits are signed bytes

    @inline
    def linear(codes):
        return to_f32(codes - splat_i32(center)) if center else to_f32(codes)

    @intrinsic
    def entries(typing_context, codes):
        def codegen(context, builder, sig, args):
            found = lookup(builder, builder.bitcast(args[0], i8x64.ir), list(fmt.table))
            return builder.bitcast(found, i32x16.ir)  # the low byte of each lane

        return i32x16(i32x16), codegen

    @inline
    def from_table(codes):
        return to_f32(shift_right(shift_left(entries(codes), 24), 24))

    return from_table if fmt.table else linear


@intrinsic
def _bits_by_lane(typing_context, word):
    """Return bit i of an int32 as lane i of i32x16."""

    def codegen(context, builder, sig, args):
        one = builder.insert_element(ir.Constant(i32x16.ir, ir.Undefined), args[0],
                                     ir.Constant(ir.IntType(32), 0))  # fmt: skip
        zeros = ir.Constant(i32x16.ir, [0] * 16)
        every = builder.shuffle_vector(one, ir.Constant(i32x16.ir, ir.Undefined), zeros)
        moved = builder.lshr(every, ir.Constant(i32x16.ir, list(range(16))))
        return builder.and_(moved, ir.Constant(i32x16.ir, [1] * 16))

    return i32x16(types.int32), codegen


def _storer(fmt):
    """Make store(codes, scale, offset, at)."""
    meaning, has_offset = _meaning(fmt), fmt.scales == "dm"

    @inline
    def store(codes, scale, offset, at):
        x = scale * meaning(codes)
        store_f32x16(at, x + offset if has_offset else x)

    return store


def _places(fmt):
    """Return where the fifth bits and the other codes of a block begin."""
    header = 4 if fmt.scales == "dm" else 2
    return header, header + (4 if fmt.bits == 5 else 0)


@inline
def _halves_of_keys(at):
    """Return the float16 whose bytes are those of 16 keys at `at`, and 64 bytes further."""
    low, high = widen_u8(load_i8x16(at)), widen_u8(load_i8x16(at + PAGE))
    return widen(low | shift_left(high, 8))


def key_unpacker(kind):
    """Make unpack(k, dk, out): keys at k as float32 [dk][64].

    Parameters
    ----------
    kind : str
        A quantized type of caches.
    """
    fmt = formats.get(kind.upper())
    store, has_offset, five = _storer(fmt), fmt.scales == "dm", fmt.bits == 5
    upper_at, codes_at = _places(fmt)
    n_bytes = fmt.block_bytes

    @inline
    def bytes_block(at, scale, offset, out):
        for i in range(32):
            codes = widen_i8(load_i8x16(at + PAGE * (codes_at + i)))
            store(codes, scale, offset, out + 4 * PAGE * i)

    @inline
    def nibbles_block(at, scale, offset, out):
        for i in range(16):
            codes = widen_u8(load_i8x16(at + PAGE * (codes_at + i)))
            low, high = codes & splat_i32(15), shift_right(codes, 4)
            if five:
                upper = at + PAGE * (upper_at + i // 8)
                first, second = widen_u8(load_i8x16(upper)), widen_u8(load_i8x16(upper + 2 * PAGE))
                low = low | shift_left(shift_right(first, i % 8) & splat_i32(1), 4)
                high = high | shift_left(shift_right(second, i % 8) & splat_i32(1), 4)
            store(low, scale, offset, out + 4 * PAGE * i)
            store(high, scale, offset, out + 4 * PAGE * (16 + i))

    block = bytes_block if fmt.bits == 8 else nibbles_block

    @inline
    def unpack(k, dk, out):
        for start in range(0, dk, 32):
            for c in range(0, PAGE, 16):
                scale = _halves_of_keys(k + c)
                offset = _halves_of_keys(k + c + 2 * PAGE) if has_offset else scale
                block(k + c, scale, offset, out + 4 * (PAGE * start + c))
            k += PAGE * n_bytes

    return unpack


@inline
def _half_at(at):
    return widen(splat_i32(load_u16(at)))


def value_unpacker(kind):
    """Make unpack(v, dv, out): values at v as float32 [64][dv].

    Parameters
    ----------
    kind : str
        A quantized type of caches.
    """
    fmt = formats.get(kind.upper())
    store, has_offset, five = _storer(fmt), fmt.scales == "dm", fmt.bits == 5
    upper_at, codes_at = _places(fmt)
    n_bytes, eight = fmt.block_bytes, fmt.bits == 8

    @inline
    def unpack(v, dv, out):
        for _ in range(PAGE * dv // 32):
            scale = _half_at(v)
            offset = _half_at(v + 2) if has_offset else scale
            low = load_i8x16(v + codes_at)
            if eight:
                store(widen_i8(low), scale, offset, out)
                store(widen_i8(load_i8x16(v + codes_at + 16)), scale, offset, out + 64)
            else:
                codes = widen_u8(low)
                first, second = codes & splat_i32(15), shift_right(codes, 4)
                if five:
                    bits = _bits_by_lane(load_u16(v + upper_at))
                    first = first | shift_left(bits, 4)
                    bits = _bits_by_lane(load_u16(v + upper_at + 2))
                    second = second | shift_left(bits, 4)
                store(first, scale, offset, out)
                store(second, scale, offset, out + 64)
            v += n_bytes
            out += 128

    return unpack
