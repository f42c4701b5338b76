"""ln(1 + e^x): gates of state spaces and of routers."""

import numpy as np

from jitllm.kernels.cpu import vmath
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.vmath import TWO, ZERO
from jitllm.kernels.simd import fabs, fma, splat_f32, vmax

THIRD, FIFTH, SEVENTH, NINTH, ELEVENTH, THIRTEENTH, FIFTEENTH = (
    np.float32(1 / n) for n in (3, 5, 7, 9, 11, 13, 15)
)


@inline
def softplus(x):
    """Return max(x, 0) + ln(1 + e^-|x|), with ln(1 + e) = 2 artanh(e / (2 + e)); below 4 ulp.

    The argument of artanh is at most 1/3: seven terms of its series are enough for float32.
    """
    e = vmath.exp(splat_f32(ZERO) - fabs(x))
    s = e / (splat_f32(TWO) + e)
    z = s * s
    p = fma(splat_f32(FIFTEENTH), z, splat_f32(THIRTEENTH))
    p = fma(p, z, splat_f32(ELEVENTH))
    p = fma(p, z, splat_f32(NINTH))
    p = fma(p, z, splat_f32(SEVENTH))
    p = fma(p, z, splat_f32(FIFTH))
    p = fma(p, z, splat_f32(THIRD))
    half = fma(p * z, s, s)
    return vmax(splat_f32(ZERO), x) + (half + half)
