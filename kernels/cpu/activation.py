"""Activation functions, alone or as gated units.

Per element: 8 or 12 bytes of memory traffic and about 20 vector operations a lane group of 16, so
from the second-level cache on these kernels run at the speed of memory.
"""

import numpy as np

from jitllm.kernels.cpu import vmath
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.rows import next_rows, row_count
from jitllm.kernels.cpu.softplus import softplus
from jitllm.kernels.cpu.vmath import HALF, ONE, ZERO
from jitllm.kernels.simd import fma, load_f32x16, load_i64, splat_f32, store_f32x16, vmax

GELU_TWICE = np.float32(2 * np.sqrt(2 / np.pi))
GELU_CUBE = np.float32(2 * np.sqrt(2 / np.pi) * 0.044715)
GELU_QUICK = np.float32(1.702)
ROOT_HALF = np.float32(np.sqrt(0.5))


@inline
def silu(x):
    """Return x / (1 + e^-x)."""
    return x / (splat_f32(ONE) + vmath.exp(splat_f32(ZERO) - x))


@inline
def gelu(x):
    """Return the tanh form of GELU: 0.5 x (1 + tanh u) = x / (1 + e^-2u)."""
    twice = x * fma(splat_f32(GELU_CUBE), x * x, splat_f32(GELU_TWICE))
    return x / (splat_f32(ONE) + vmath.exp(splat_f32(ZERO) - twice))


@inline
def gelu_erf(x):
    """Return 0.5 x (1 + erf(x / sqrt 2))."""
    return x * splat_f32(HALF) * (splat_f32(ONE) + vmath.erf(x * splat_f32(ROOT_HALF)))


@inline
def gelu_quick(x):
    """Return x / (1 + e^-1.702x)."""
    return x / (splat_f32(ONE) + vmath.exp(x * splat_f32(-GELU_QUICK)))


@inline
def relu(x):
    """Return max(x, 0); NaN stays NaN."""
    return vmax(splat_f32(ZERO), x)


@inline
def relu_squared(x):
    """Return max(x, 0)^2."""
    y = vmax(splat_f32(ZERO), x)
    return y * y


ACTS = {
    "silu": silu,
    "gelu": gelu,
    "gelu_erf": gelu_erf,
    "gelu_quick": gelu_quick,
    "relu": relu,
    "relu_squared": relu_squared,
    "sigmoid": vmath.sigmoid,
    "tanh": vmath.tanh,
    "softplus": softplus,
}


def _function(act):
    if act not in ACTS:
        raise ValueError(f"act must be one of {sorted(ACTS)}, got {act!r}")
    return ACTS[act]


def glu(*, act):
    """Make the kernel y = act(gate) * up (`abi.GLU`)."""
    function = _function(act)

    def kernel(args, thread, n_threads, counter):
        n_rows = row_count(args)
        gate, ldg = load_i64(args + 16), load_i64(args + 24)
        up, ldu = load_i64(args + 32), load_i64(args + 40)
        y, ldy, width = load_i64(args + 48), load_i64(args + 56), load_i64(args + 64)
        row, end = next_rows(counter, n_rows, width)
        while row < end:
            for r in range(row, end):
                for i in range(0, 4 * width, 64):
                    value = function(load_f32x16(gate + r * ldg + i))
                    store_f32x16(y + r * ldy + i, value * load_f32x16(up + r * ldu + i))
            row, end = next_rows(counter, n_rows, width)

    return kernel


def activation(*, act):
    """Make the kernel y = act(x) (`abi.ACTIVATION`)."""
    function = _function(act)

    def kernel(args, thread, n_threads, counter):
        n_rows = row_count(args)
        x, ldx, y, ldy = (load_i64(args + 16), load_i64(args + 24), load_i64(args + 32),
                          load_i64(args + 40))  # fmt: skip
        width = load_i64(args + 48)
        row, end = next_rows(counter, n_rows, width)
        while row < end:
            for r in range(row, end):
                for i in range(0, 4 * width, 64):
                    store_f32x16(y + r * ldy + i, function(load_f32x16(x + r * ldx + i)))
            row, end = next_rows(counter, n_rows, width)

    return kernel
