"""float16 in memory, float32 in registers: one instruction where the level has it, else integers.

Both ways give the same bits for everything but the payload of a NaN: loads are exact, stores round
to nearest even, overflow to infinity and keep subnormals. bfloat16 is always done by integers.
"""

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from jitllm.kernels import level as levels
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.vmath import first_lanes
from jitllm.kernels.simd import (
    I32,
    bits_f32,
    bits_i32,
    declare,
    f32x16,
    i32x16,
    pointer,
    shift_left,
    shift_right_logical,
    splat_f32,
    splat_i32,
    where_gt,
    where_lt,
)

_WORDS = ir.VectorType(ir.IntType(16), 16)
_HALVES = ir.VectorType(ir.HalfType(), 16)


@intrinsic
def load_words(typing_context, address):
    """Load 16 unsigned 16-bit words as i32x16."""

    def codegen(context, builder, sig, args):
        value = builder.load(pointer(builder, args[0], _WORDS))
        value.align = 2
        return builder.zext(value, i32x16.ir)

    return i32x16(types.intp), codegen


@intrinsic
def load_words_part(typing_context, address, n):
    """Load the first `n` words, zeros in the other lanes; touches no other memory."""

    def codegen(context, builder, sig, args):
        at, mask = pointer(builder, args[0], _WORDS), first_lanes(builder, args[1])
        kinds = [at.type, I32, mask.type, _WORDS]
        load = declare(builder, "llvm.masked.load.v16i16.p0", _WORDS, kinds)
        zeros = ir.Constant(_WORDS, [0] * 16)
        return builder.zext(builder.call(load, [at, ir.Constant(I32, 2), mask, zeros]), i32x16.ir)

    return i32x16(types.intp, types.intp), codegen


@intrinsic
def store_words(typing_context, address, x):
    """Store the low 16 bits of each lane of i32x16."""

    def codegen(context, builder, sig, args):
        value = builder.trunc(args[1], _WORDS)
        builder.store(value, pointer(builder, args[0], _WORDS)).align = 2
        return context.get_dummy_value()

    return types.void(types.intp, i32x16), codegen


@intrinsic
def store_words_part(typing_context, address, x, n):
    """Store the low 16 bits of the first `n` lanes; touches no other memory."""

    def codegen(context, builder, sig, args):
        at, mask = pointer(builder, args[0], _WORDS), first_lanes(builder, args[2])
        kinds = [_WORDS, at.type, I32, mask.type]
        store = declare(builder, "llvm.masked.store.v16i16.p0", ir.VoidType(), kinds)
        value = builder.trunc(args[1], _WORDS)
        builder.call(store, [value, at, ir.Constant(I32, 2), mask])
        return context.get_dummy_value()

    return types.void(types.intp, i32x16, types.intp), codegen


@intrinsic
def _widen_native(typing_context, words):
    def codegen(context, builder, sig, args):
        return builder.fpext(builder.bitcast(builder.trunc(args[0], _WORDS), _HALVES), f32x16.ir)

    return f32x16(i32x16), codegen


@intrinsic
def _narrow_native(typing_context, x):
    def codegen(context, builder, sig, args):
        return builder.zext(builder.bitcast(builder.fptrunc(args[0], _HALVES), _WORDS), i32x16.ir)

    return i32x16(f32x16), codegen


TWO_112 = np.float32(2.0**112)  # moves the exponent bias from 15 to 127, subnormals included
HALF = np.float32(0.5)


@inline
def _widen_plain(words):
    sign = shift_left(words & splat_i32(0x8000), 16)
    magnitude = shift_left(words & splat_i32(0x7FFF), 13)
    finite = bits_i32(bits_f32(magnitude) * splat_f32(TWO_112))
    special = magnitude | splat_i32(0x7F800000)
    return bits_f32(sign | where_lt(magnitude, splat_i32(0x7C00 << 13), finite, special))


@inline
def _narrow_plain(x):
    bits = bits_i32(x)
    magnitude = bits & splat_i32(0x7FFFFFFF)
    even = shift_right_logical(magnitude, 13) & splat_i32(1)
    normal = shift_right_logical(magnitude + splat_i32(0xFFF) + even - splat_i32(112 << 23), 13)
    # A float between 1/2 and 1 counts in units of 2^-24, the unit of subnormal halves.
    small = bits_i32(bits_f32(magnitude) + splat_f32(HALF)) - splat_i32(126 << 23)
    half = where_lt(magnitude, splat_i32(113 << 23), small, normal)
    half = where_lt(magnitude, splat_i32(0x477FF000), half, splat_i32(0x7C00))  # 65520 and above
    half = where_gt(magnitude, splat_i32(0x7F800000), splat_i32(0x7E00), half)
    return half | (shift_right_logical(bits, 16) & splat_i32(0x8000))


if levels.current().half:
    widen, narrow = _widen_native, _narrow_native
else:
    widen, narrow = _widen_plain, _narrow_plain


@inline
def load_half(address):
    """Load 16 halves as f32x16."""
    return widen(load_words(address))


@inline
def load_half_part(address, n):
    """Load the first `n` halves, zeros in the other lanes; touches no other memory."""
    return widen(load_words_part(address, n))


@inline
def load_bfloat(address):
    """Load 16 bfloat16 numbers as f32x16."""
    return bits_f32(shift_left(load_words(address), 16))


@inline
def load_bfloat_part(address, n):
    """Load the first `n` bfloat16 numbers, zeros in the other lanes; touches no other memory."""
    return bits_f32(shift_left(load_words_part(address, n), 16))


@inline
def narrow_bfloat(x):
    """Round f32x16 to the nearest bfloat16, ties to even, as the low words of i32x16."""
    bits = bits_i32(x)
    odd = shift_right_logical(bits, 16) & splat_i32(1)
    return shift_right_logical(bits + splat_i32(0x7FFF) + odd, 16)


@inline
def store_half(address, x):
    """Round f32x16 to 16 halves and store them."""
    store_words(address, narrow(x))


@inline
def store_half_part(address, x, n):
    """Round and store the first `n` lanes; touches no other memory."""
    store_words_part(address, narrow(x), n)
