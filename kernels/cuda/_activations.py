"""act(x) and gated units, by their places in ACTIVATIONS and FORMS of `backends._gpu.lower`."""

import numpy as np

from jitllm.kernels.cpu import softplus as series
from jitllm.kernels.gpu.vocabulary import (
    erf,
    exp,
    fabs,
    fma,
    inline,
    maximum,
    minimum,
    sigmoid,
    tanh,
)

ZERO, HALF, ONE, TWO = (np.float32(x) for x in (0, 0.5, 1, 2))
ROOT_HALF, ROOT_2_OVER_PI = np.float32(0.5**0.5), np.float32((2 / np.pi) ** 0.5)
CUBIC, QUICK = np.float32(0.044715), np.float32(1.702)


@inline
def softplus(x):
    """Return ln(1 + e^x), the way and the error those of `cpu.softplus`."""
    e = exp(-fabs(x))
    s = e / (TWO + e)
    z = s * s
    p = fma(fma(fma(series.FIFTEENTH, z, series.THIRTEENTH), z, series.ELEVENTH), z, series.NINTH)
    p = fma(fma(fma(p, z, series.SEVENTH), z, series.FIFTH), z, series.THIRD)
    half = fma(p * z, s, s)
    return maximum(x, ZERO) + (half + half)


@inline
def clamp(x, bound):
    """Return x within -bound and bound."""
    return minimum(maximum(x, -bound), bound)


@inline
def _silu(x):
    return x * sigmoid(x)


@inline
def _gelu(x):
    return HALF * x * (ONE + tanh(ROOT_2_OVER_PI * (x + CUBIC * x * x * x)))


@inline
def _gelu_erf(x):
    return HALF * x * (ONE + erf(x * ROOT_HALF))


@inline
def _gelu_quick(x):
    return x * sigmoid(QUICK * x)


@inline
def _relu(x):
    return maximum(x, ZERO)


@inline
def _relu_squared(x):
    return maximum(x, ZERO) * maximum(x, ZERO)


@inline
def _swiglu_clamp(gate, up, a, b):
    low = minimum(gate, a)
    return low * sigmoid(low) * clamp(up, a)


@inline
def _swiglu_limit(gate, up, a, b):
    return minimum(gate * sigmoid(gate), a) * clamp(up, a)


@inline
def _swiglu_oai(gate, up, a, b):
    low = minimum(gate, a)
    return low * sigmoid(b * low) * (clamp(up, a) + ONE)


@inline
def _situ(gate, up, a, b):
    if b > ZERO:
        up = b * tanh(up / b)
    return a * tanh(gate / a) * sigmoid(gate) * up


_ACTS = (
    _silu, _gelu, _gelu_erf, _gelu_quick, _relu, _relu_squared, sigmoid, tanh, softplus,
)  # fmt: skip
_FORMS = (_swiglu_clamp, _swiglu_limit, _swiglu_oai, _situ)


def activation(place):
    """Return f(x), the activation at a place."""
    return _ACTS[place]


def bounded(place):
    """Return f(gate, up, a, b), the gated unit within bounds at a place."""
    return _FORMS[place]
