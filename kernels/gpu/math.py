"""Arithmetic of GPU kernels on float32 and integers, never re-associated or fused by itself.

`exp` uses the GPU's power of two, the rest are polynomials: those of `jitllm.kernels.cpu.vmath`,
where their errors are stated.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from jitllm.kernels.cpu import vmath
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.simd import F32, I32, I64, declare

_F16, _I16 = ir.HalfType(), ir.IntType(16)


def _floats(name: str, n: int) -> Any:
    """Make a function of n float32 numbers from the LLVM or `jit_` function `name`."""

    def codegen(context, builder, sig, args):
        return builder.call(declare(builder, name, F32, [F32] * n), args)

    one = types.float32
    if n == 3:
        return intrinsic(lambda typing_context, a, b, c: (one(one, one, one), codegen))
    return intrinsic(lambda typing_context, x: (one(one), codegen))


fma = _floats("llvm.fma.f32", 3)  # a * b + c, rounded once
sqrt = _floats("llvm.sqrt.f32", 1)
fabs = _floats("llvm.fabs.f32", 1)
floor = _floats("llvm.floor.f32", 1)
round_even = _floats("llvm.rint.f32", 1)  # to the nearest integer, ties to even
exp2 = _floats("jit_ex2", 1)  # relative error below 2^-22


def _bound(name: str, comparison: str) -> Any:
    """Make f(a, b): of floats the one that is a number if the other is NaN; of integers int64."""

    @intrinsic
    def bound(typing_context, a, b):
        is_float = isinstance(a, types.Float) or isinstance(b, types.Float)

        def codegen(context, builder, sig, args):
            if is_float:
                return builder.call(declare(builder, f"llvm.{name}.f32", F32, [F32, F32]), args)
            return builder.select(builder.icmp_signed(comparison, *args), *args)

        kind = types.float32 if is_float else types.int64
        return kind(kind, kind), codegen

    return bound


minimum, maximum = _bound("minnum", "<"), _bound("maxnum", ">")


def _unsigned(instruction: str) -> Any:
    """Make f(a, b) for numbers from 0 to 2^32 - 1: faster than `//` and `%`."""

    @intrinsic
    def divide(typing_context, a, b):
        def codegen(context, builder, sig, args):
            a, b = (builder.trunc(x, I32) for x in args)
            return builder.zext(getattr(builder, instruction)(a, b), I64)

        return types.int64(types.int64, types.int64), codegen

    return divide


divide_u32, remainder_u32 = _unsigned("udiv"), _unsigned("urem")


def _dot4(name: str) -> Any:
    """Make f(a, b, c): c plus the products of the four bytes of a and b."""

    @intrinsic
    def dot(typing_context, a, b, c):
        def codegen(context, builder, sig, args):
            return builder.call(declare(builder, f"jit_{name}", I32, [I32] * 3), args)

        return types.int32(*[types.int32] * 3), codegen

    return dot


@intrinsic
def permute_bytes(typing_context, a, b, which):
    """Return four bytes of a, whose bytes are 0 to 3, and b, 4 to 7, chosen by `which`.

    Its four lowest hexadecimal digits say which; the lowest says the lowest byte. With 8 more a
    digit takes the byte's highest bit eight times.
    """

    def codegen(context, builder, sig, args):
        return builder.call(declare(builder, "jit_permute_bytes", I32, [I32] * 3), args)

    return types.int32(*[types.int32] * 3), codegen


dot4_s8, dot4_u8 = _dot4("dot4_s8"), _dot4("dot4_u8")  # b's bytes are signed, a's signed or not


def _convert(kind: Any, source: Any, change: Any) -> Any:
    """Make f(x): x taken as `source`, changed to `kind`."""

    @intrinsic
    def convert(typing_context, x):
        def codegen(context, builder, sig, args):
            return change(builder, args[0])

        return kind(source), codegen

    return convert


@intrinsic
def to_f32(typing_context, x):
    """Return a number, such as an integer, rounded to float32."""

    def codegen(context, builder, sig, args):
        return context.cast(builder, args[0], sig.args[0], types.float32)

    return types.float32(x), codegen


@intrinsic
def to_i32(typing_context, x):
    """Return a float without its fraction, or the low 32 bits of an integer, as int32.

    Floats beyond int32 give its nearest number, NaN gives 0.
    """
    kind = types.float32 if isinstance(x, types.Float) else x

    def codegen(context, builder, sig, args):
        if kind == types.float32:
            return builder.call(declare(builder, "jit_to_i32", I32, [F32]), args)
        return context.cast(builder, args[0], kind, types.int32)

    return types.int32(kind), codegen


def _half(builder: Any, word: Any) -> Any:
    return builder.fpext(builder.bitcast(builder.trunc(word, _I16), _F16), F32)


as_f32 = _convert(types.float32, types.int32, lambda builder, x: builder.bitcast(x, F32))
as_i32 = _convert(types.int32, types.float32, lambda builder, x: builder.bitcast(x, I32))
low_f16 = _convert(types.float32, types.int32, _half)
high_f16 = _convert(
    types.float32, types.int32,
    lambda builder, x: _half(builder, builder.lshr(x, ir.Constant(I32, 16))),
)  # fmt: skip


@intrinsic
def pack_f16(typing_context, low, high):
    """Round two float32 to float16, into the low and the high half of an int32."""

    def codegen(context, builder, sig, args):
        halves = (builder.bitcast(builder.fptrunc(x, _F16), _I16) for x in args)
        low, high = (builder.zext(half, I32) for half in halves)
        return builder.or_(low, builder.shl(high, ir.Constant(I32, 16)))

    return types.int32(types.float32, types.float32), codegen


_PAIR = ir.VectorType(_F16, 2)


def _pairs(builder: Any, args: Any) -> list[Any]:
    return [builder.bitcast(x, _PAIR) for x in args]


def _of_pairs(step: str) -> Any:
    """Make f(a, b) from an instruction: both float16 of words, rounded once."""

    @intrinsic
    def of_pairs(typing_context, a, b):
        def codegen(context, builder, sig, args):
            return builder.bitcast(getattr(builder, step)(*_pairs(builder, args)), I32)

        return types.int32(types.int32, types.int32), codegen

    return of_pairs


add_f16x2, multiply_f16x2 = _of_pairs("fadd"), _of_pairs("fmul")


@intrinsic
def bound_f16x2(typing_context, x, most):
    """Return of both float16 of x the nearest number from -most to most; NaN stays."""

    def codegen(context, builder, sig, args):
        x, most = _pairs(builder, args)
        for name, bound in (("minimum", most), ("maximum", builder.fneg(most))):
            x = builder.call(declare(builder, f"llvm.{name}.v2f16", _PAIR, [_PAIR] * 2), [x, bound])
        return builder.bitcast(x, I32)

    return types.int32(types.int32, types.int32), codegen


# --- functions ---------------------------------------------------------------------------------

ZERO, HALF, ONE, TWO = (np.float32(x) for x in (0, 0.5, 1, 2))
LOG2_E, LN2 = np.float32(np.log2(np.e)), np.float32(np.log(2))
LOG2_E_LOW = np.float32(np.log2(np.e) - np.float64(LOG2_E))


@inline
def exp(x):
    """Return e^x, relative error below 5e-7.

    2^t with t = x log2(e), and what rounding took from t as a factor.
    """
    t = x * LOG2_E
    lost = fma(x, LOG2_E_LOW, fma(x, LOG2_E, -t))
    factor = fma(lost, LN2, ONE)
    return exp2(t) * (factor if fabs(lost) < ONE else ONE)  # 2^t is 0 or inf where it is not


@inline
def sigmoid(x):
    """Return 1 / (1 + e^-x)."""
    return ONE / (ONE + exp(-x))


TINY, SQRT2 = np.float32(2.0**-126), np.float32(np.sqrt(2))
TWO_23, INF = np.float32(2.0**23), np.float32(np.inf)
A3, A5, A7, A9 = (np.float32(2 / n) for n in (3, 5, 7, 9))


@inline
def log(x):
    """Return the natural logarithm, below 2 ulp.

    x = 2^k m with m near 1; log(m) = 2 artanh(s) with s = (m - 1) / (m + 1), its power series.
    """
    scaled = x * TWO_23 if x < TINY else x
    bits = as_i32(scaled)
    k = (bits >> 23) - (150 if x < TINY else 127)
    m = as_f32(bits & 0x7FFFFF | 0x3F800000)
    if m > SQRT2:
        m, k = m * HALF, k + 1
    f, e = m - ONE, to_f32(k)
    s = f / (TWO + f)
    z = s * s
    p = fma(fma(fma(A9, z, A7), z, A5), z, A3)
    y = fma(e, vmath.LN2_HIGH, fma(e, vmath.LN2_LOW, fma(p * z, s, s + s)))
    if not x < INF:
        return x  # inf, NaN
    return y if x > ZERO else (-INF if x == ZERO else INF - INF)


@inline
def tanh(x):
    """Return tanh(x), below 3 ulp."""
    z, a = x * x, fabs(x)
    p = fma(fma(vmath.T11, z, vmath.T9), z, vmath.T7)
    p = fma(fma(p, z, vmath.T5), z, vmath.T3)
    small = fma(p * z, x, x)
    large = ONE - TWO / (exp(a + a) + ONE)
    return small if a < vmath.TANH_SMALL else (-large if x < ZERO else large)


@inline
def erf(x):
    """Return erf(x), absolute error below 4e-7."""
    z, a = x * x, fabs(x)
    p = fma(fma(vmath.R11, z, vmath.R9), z, vmath.R7)
    p = fma(fma(fma(p, z, vmath.R5), z, vmath.R3), z, vmath.R1)
    b = vmath.ERF_ONE if a > vmath.ERF_ONE else a
    q = fma(fma(fma(vmath.C8, b, vmath.C7), b, vmath.C6), b, vmath.C5)
    q = fma(fma(fma(q, b, vmath.C4), b, vmath.C3), b, vmath.C2)
    large = ONE - exp(fma(fma(q, b, vmath.C1), b, vmath.C0))
    return p * x if a < vmath.ERF_SMALL else (-large if x < ZERO else large)
