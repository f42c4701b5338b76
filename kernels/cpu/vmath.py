"""Vector mathematics from fma and integer steps alone: every machine level gives equal bits.

Functions take and return f32x16. The polynomials are minimax fits (Lawson's iteration) made for
this file; the range reductions are those of Cody and Waite (1980).
"""

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.simd import (
    I32,
    bits_f32,
    bits_i32,
    const,
    declare,
    f32x16,
    fabs,
    fma,
    i32x16,
    pointer,
    shift_left,
    splat_f32,
    splat_i32,
    splat_ir,
    where_eq,
    where_gt,
    where_lt,
)

ZERO, HALF, ONE, TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)


# --- parts of vectors: the last columns of a row whose width is no multiple of 16 ---------------

_BOOLS = ir.VectorType(ir.IntType(1), 16)
_LANES = ir.Constant(i32x16.ir, list(range(16)))


def first_lanes(builder, n):
    """Return the IR mask of the first `n` (int64) lanes."""
    limit = splat_ir(builder, builder.trunc(n, I32), i32x16)
    return builder.icmp_signed("<", _LANES, limit)


@intrinsic
def lanes(typing_context):
    """Return 0, 1, ..., 15 as i32x16."""

    def codegen(context, builder, sig, args):
        return _LANES

    return i32x16(), codegen


@intrinsic
def load_part(typing_context, address, n):
    """Load the first `n` floats at `address`, zeros in the other lanes; touches no other memory."""

    def codegen(context, builder, sig, args):
        at = pointer(builder, args[0], f32x16.ir)
        kinds = [at.type, I32, _BOOLS, f32x16.ir]
        load = declare(builder, "llvm.masked.load.v16f32.p0", f32x16.ir, kinds)
        mask = first_lanes(builder, args[1])
        return builder.call(load, [at, ir.Constant(I32, 4), mask, const(f32x16, 0.0)])

    return f32x16(types.intp, types.intp), codegen


@intrinsic
def store_part(typing_context, address, value, n):
    """Store the first `n` lanes; touches no other memory."""

    def codegen(context, builder, sig, args):
        at = pointer(builder, args[0], f32x16.ir)
        kinds = [f32x16.ir, at.type, I32, _BOOLS]
        store = declare(builder, "llvm.masked.store.v16f32.p0", ir.VoidType(), kinds)
        mask = first_lanes(builder, args[2])
        builder.call(store, [args[1], at, ir.Constant(I32, 4), mask])
        return context.get_dummy_value()

    return types.void(types.intp, f32x16, types.intp), codegen


@intrinsic
def first_f32(typing_context, x):
    """Return lane 0 as a float32."""

    def codegen(context, builder, sig, args):
        return builder.extract_element(args[0], ir.Constant(I32, 0))

    return types.float32(f32x16), codegen


@intrinsic
def as_f32(typing_context, x):
    """Round a number to float32."""

    def codegen(context, builder, sig, args):
        return context.cast(builder, args[0], sig.args[0], types.float32)

    return types.float32(x), codegen


@inline
def fill_part(x, n, other):
    """Return x with the lanes of `other` in all but the first `n` lanes."""
    return where_lt(lanes(), splat_i32(n), x, other)


@inline
def keep_part(x, n):
    """Return x with zeros in all but the first `n` lanes."""
    return fill_part(x, n, splat_f32(ZERO))


def _shuffle(indices):
    @intrinsic
    def shuffle(typing_context, a, b):
        def codegen(context, builder, sig, args):
            mask = ir.Constant(ir.VectorType(I32, 16), indices)
            return builder.shuffle_vector(args[0], args[1], mask)

        return f32x16(f32x16, f32x16), codegen

    return shuffle


evens = _shuffle(list(range(0, 32, 2)))  # lanes 0, 2, ... of the 32 in (a, b)
odds = _shuffle(list(range(1, 32, 2)))
zip_low = _shuffle([i // 2 + 16 * (i % 2) for i in range(16)])  # a0 b0 a1 b1 ... a7 b7
zip_high = _shuffle([8 + i // 2 + 16 * (i % 2) for i in range(16)])

# --- functions ---------------------------------------------------------------------------------

# Adding 1.5 * 2^23 leaves the nearest integer (ties to even) in the low bits of the sum.
ROUND = np.float32(12582912.0)
LOG2_E = np.float32(1.4426950408889634)
LN2_HIGH = np.float32(0.693359375)  # 9 bits: k * LN2_HIGH is exact
LN2_LOW = np.float32(-2.12194440e-4)
EXP_LOWEST, EXP_HIGHEST = np.float32(-87.3), np.float32(88.72283)
INF = np.float32(np.inf)
E2, E3, E4, E5, E6 = (
    np.float32(x) for x in (4.9999993449e-01, 1.6666520645e-01, 4.1668387900e-02,
                            8.3687152722e-03, 1.3814601299e-03)
)  # fmt: skip


@inline
def exp(x):
    """Return e^x: below 2 ulp; 0 below -87.3, inf above 88.72, NaN for NaN.

    x = k ln 2 + r with |r| <= ln(2) / 2; e^r = 1 + r + r^2 P(r); k is added to the exponent.
    """
    t = fma(x, splat_f32(LOG2_E), splat_f32(ROUND))
    k = t - splat_f32(ROUND)
    r = fma(k, splat_f32(-LN2_HIGH), x)
    r = fma(k, splat_f32(-LN2_LOW), r)
    p = fma(splat_f32(E6), r, splat_f32(E5))
    p = fma(p, r, splat_f32(E4))
    p = fma(p, r, splat_f32(E3))
    p = fma(p, r, splat_f32(E2))
    p = fma(p, r * r, r) + splat_f32(ONE)
    # The low 9 bits of t hold k and end up where the exponent is; its high bits fall off.
    y = bits_f32(bits_i32(p) + shift_left(bits_i32(t), 23))
    y = where_lt(x, splat_f32(EXP_HIGHEST), y, x + splat_f32(INF))
    return where_lt(x, splat_f32(EXP_LOWEST), splat_f32(ZERO), y)


@inline
def sigmoid(x):
    """Return 1 / (1 + e^-x)."""
    one = splat_f32(ONE)
    return one / (one + exp(splat_f32(ZERO) - x))


TANH_SMALL = np.float32(0.6)
T3, T5, T7, T9, T11 = (
    np.float32(x) for x in (-3.3333299272e-01, 1.3331958231e-01, -5.3786682628e-02,
                            2.0805381579e-02, -5.9058650685e-03)
)  # fmt: skip


@inline
def tanh(x):
    """Return tanh(x): odd polynomial up to 0.6, 1 - 2 / (e^2x + 1) above; below 3 ulp."""
    z = x * x
    p = fma(splat_f32(T11), z, splat_f32(T9))
    p = fma(p, z, splat_f32(T7))
    p = fma(p, z, splat_f32(T5))
    p = fma(p, z, splat_f32(T3))
    small = fma(p * z, x, x)
    a = fabs(x)
    one = splat_f32(ONE)
    large = one - splat_f32(TWO) / (exp(a + a) + one)
    large = where_lt(x, splat_f32(ZERO), splat_f32(ZERO) - large, large)
    return where_lt(a, splat_f32(TANH_SMALL), small, large)


ERF_SMALL, ERF_ONE = np.float32(0.95), np.float32(4.1)
R1, R3, R5, R7, R9, R11 = (
    np.float32(x) for x in (1.1283791286e00, -3.7612355654e-01, 1.1280411416e-01,
                            -2.6717702201e-02, 4.9247836426e-03, -5.6601319334e-04)
)  # fmt: skip
C0, C1, C2, C3, C4, C5, C6, C7, C8 = (
    np.float32(x) for x in (2.4968514256e-04, -1.1299114169e00, -6.3245282965e-01,
                            -1.0940221406e-01, 2.5975970410e-02, -4.5779337846e-03,
                            5.5183601740e-04, -3.9884510586e-05, 1.2772237180e-06)
)  # fmt: skip


@inline
def erf(x):
    """Return erf(x), absolute error below 2e-7.

    An odd polynomial up to 0.95; above, 1 - e^Q(|x|) with Q fitted to log(erfc).
    """
    z = x * x
    p = fma(splat_f32(R11), z, splat_f32(R9))
    p = fma(p, z, splat_f32(R7))
    p = fma(p, z, splat_f32(R5))
    p = fma(p, z, splat_f32(R3))
    p = fma(p, z, splat_f32(R1))
    a = fabs(x)
    b = where_gt(a, splat_f32(ERF_ONE), splat_f32(ERF_ONE), a)  # NaN passes through
    q = fma(splat_f32(C8), b, splat_f32(C7))
    q = fma(q, b, splat_f32(C6))
    q = fma(q, b, splat_f32(C5))
    q = fma(q, b, splat_f32(C4))
    q = fma(q, b, splat_f32(C3))
    q = fma(q, b, splat_f32(C2))
    q = fma(q, b, splat_f32(C1))
    large = splat_f32(ONE) - exp(fma(q, b, splat_f32(C0)))
    large = where_lt(x, splat_f32(ZERO), splat_f32(ZERO) - large, large)
    return where_lt(a, splat_f32(ERF_SMALL), p * x, large)


TWO_OVER_PI = np.float32(2 / np.pi)
PI2_1 = np.float32(np.pi / 2)
PI2_2 = np.float32(np.pi / 2 - float(PI2_1))
S3, S5, S7 = (np.float32(x) for x in (-1.6666646510e-01, 8.3316761644e-03, -1.9453435987e-04))
D4, D6, D8 = (np.float32(x) for x in (4.1666632611e-02, -1.3886705887e-03, 2.4366797884e-05))


@inline
def sin_cos(x):
    """Return the sine and the cosine of x, absolute error below 1e-7 up to |x| = 1e6.

    x = q pi/2 + r with |r| < 0.86. The first fma is exact, as the difference is a multiple of
    2^-23 below 1, and what two float32 leave out of pi/2 stays below 1e-9.
    """
    t = fma(x, splat_f32(TWO_OVER_PI), splat_f32(ROUND))
    k = t - splat_f32(ROUND)
    r = fma(k, splat_f32(-PI2_2), fma(k, splat_f32(-PI2_1), x))
    q = bits_i32(t) & splat_i32(3)
    z = r * r
    p = fma(splat_f32(S7), z, splat_f32(S5))
    p = fma(p, z, splat_f32(S3))
    s = fma(p * z, r, r)
    p = fma(splat_f32(D8), z, splat_f32(D6))
    p = fma(p, z, splat_f32(D4))
    c = fma(p, z * z, fma(splat_f32(-HALF), z, splat_f32(ONE)))
    odd = q & splat_i32(1)
    one, zero = splat_i32(1), splat_f32(ZERO)
    sine, cosine = where_eq(odd, one, c, s), where_eq(odd, one, s, c)
    sine = where_gt(q, one, zero - sine, sine)  # quarters 2 and 3
    cosine = where_eq((q + one) & splat_i32(2), splat_i32(2), zero - cosine, cosine)  # 1 and 2
    return sine, cosine
