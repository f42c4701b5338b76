"""Sine and cosine of angles that a kernel itself computes."""

import numpy as np

from jitllm.kernels.cpu import vmath
from jitllm.kernels.gpu.vocabulary import as_i32, fma, inline

HALF, ONE = np.float32(0.5), np.float32(1)


@inline
def sin_cos(x):
    """Return the sine and the cosine of x; method and error are those of `vmath.sin_cos`."""
    t = fma(x, vmath.TWO_OVER_PI, vmath.ROUND)
    k, q = t - vmath.ROUND, as_i32(t) & 3
    r = fma(k, -vmath.PI2_2, fma(k, -vmath.PI2_1, x))
    z = r * r
    sine = fma(fma(fma(vmath.S7, z, vmath.S5), z, vmath.S3) * z, r, r)
    even = fma(fma(vmath.D8, z, vmath.D6), z, vmath.D4)
    cosine = fma(even, z * z, fma(-HALF, z, ONE))
    if q & 1:
        sine, cosine = cosine, sine
    if q & 2:  # quarters 2 and 3
        sine = -sine
    if (q + 1) & 2:  # quarters 1 and 2
        cosine = -cosine
    return sine, cosine
