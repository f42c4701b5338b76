"""How much of its state a delta net keeps at a token: a number in (0, 1) made of a projection.

About 40 vector operations per 16 numbers, of which a model has one per head or one per key column:
little beside the states themselves.
"""

import numpy as np

from jitllm.kernels.cpu import vmath
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.rows import next_rows, row_count
from jitllm.kernels.cpu.vmath import TWO, ZERO
from jitllm.kernels.simd import (
    fabs,
    fma,
    load_f32,
    load_f32x16,
    load_i64,
    splat_f32,
    store_f32x16,
    vmax,
)

# atanh(z) = z + z^3 / 3 + z^5 / 5 + ...
Z3, Z5, Z7, Z9, Z11, Z13, Z15 = (np.float32(1 / n) for n in range(3, 17, 2))


@inline
def softplus(x):
    """Return log(1 + e^x) = max(x, 0) + log(1 + e^-|x|): below 3 ulp.

    log(1 + u) = 2 atanh(u / (2 + u)); the argument is at most 1/3, where terms up to the 15th
    power leave 2e-9 of the value.
    """
    u = vmath.exp(splat_f32(ZERO) - fabs(x))
    z = u / (splat_f32(TWO) + u)
    s = z * z
    p = fma(splat_f32(Z15), s, splat_f32(Z13))
    p = fma(p, s, splat_f32(Z11))
    p = fma(p, s, splat_f32(Z9))
    p = fma(p, s, splat_f32(Z7))
    p = fma(p, s, splat_f32(Z5))
    p = fma(p, s, splat_f32(Z3))
    y = fma(p * s, z, z)
    return vmax(splat_f32(ZERO), x) + (y + y)


@inline
def _free(x, rate, bound):
    return vmath.exp(rate * softplus(x))


@inline
def _bounded(x, rate, bound):
    return vmath.exp(bound * vmath.sigmoid(rate * x))


def decay_gate(*, bounded):
    """Make the kernel of `DECAY_GATE` of `cpu_ops`.

    Parameters
    ----------
    bounded : bool
        exp(bound * sigmoid(rate * (x + shift))) instead of exp(rate * softplus(x + shift)).
    """
    decay = _bounded if bounded else _free

    def kernel(args, thread, n_threads, counter):
        n_rows = row_count(args)
        x, ldx, shift, rate = (load_i64(args + 16), load_i64(args + 24), load_i64(args + 32),
                               load_i64(args + 40))  # fmt: skip
        y, ldy, width = load_i64(args + 48), load_i64(args + 56), load_i64(args + 64)
        bound = splat_f32(load_f32(args + 72))
        row, end = next_rows(counter, n_rows, width)
        while row < end:
            for r in range(row, end):
                for i in range(0, 4 * width, 64):
                    moved = load_f32x16(x + r * ldx + i) + load_f32x16(shift + i)
                    value = decay(moved, load_f32x16(rate + i), bound)
                    store_f32x16(y + r * ldy + i, value)
            row, end = next_rows(counter, n_rows, width)

    return kernel
