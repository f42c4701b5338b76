"""y = f(x), element by element: four columns a thread, in 16-byte loads where rows allow it."""

import numpy as np

from jitllm.kernels.cuda._activations import activation, clamp
from jitllm.kernels.cuda._grid import LANES, QUAD
from jitllm.kernels.cuda._layout import ELEMENTS
from jitllm.kernels.gpu.vocabulary import (
    A,
    F,
    U,
    exp,
    fabs,
    group_of_row,
    group_y,
    inline,
    load_f32,
    load_f32x4,
    load_u32,
    minimum,
    store_f32,
    store_f32x4,
    tanh,
    thread,
    unroll,
)

THREADS = LANES
ACTIVATION, FILL = 4, 6  # cases of `backends._gpu.core`
ZERO, HALF, ONE = (np.float32(x) for x in (0, 0.5, 1))
SMALL, SIXTH, FOURTH = np.float32(0.05), np.float32(1 / 6), np.float32(1 / 24)


@inline
def _copy(v, a, b, c, d):
    return v


@inline
def _scale(v, a, b, c, d):
    return v * a


@inline
def _soft_cap(v, a, b, c, d):
    return a * tanh(v / a)


@inline
def _clamp(v, a, b, c, d):
    return clamp(v, a)


@inline
def _xielu(v, a, b, c, d):
    """Huang and Schlag, "Deriving Activation Functions Using Integration", 2024."""
    if v > ZERO:
        return a * v * v + c * v
    low = minimum(v, d)  # near 0, e^x - 1 is a series: no digits cancel
    if fabs(low) < SMALL:
        grown = low * (ONE + low * (HALF + low * (SIXTH + low * FOURTH)))
    else:
        grown = exp(low) - ONE
    return b * (grown - v) + c * v


@inline
def _fill(v, a, b, c, d):
    return a


def _function(op, act):
    """Return f(v, a, b, c, d) of a case."""
    if op != ACTIVATION:
        return {0: _copy, 1: _scale, 2: _soft_cap, 3: _clamp, 5: _xielu, FILL: _fill}[op]
    act = activation(act)

    @inline
    def act_alone(v, a, b, c, d):
        return act(v)

    return act_alone


def unary(op, act):
    """Make y = f(x) for a case of `op` (`backends._gpu.core`), with up to four numbers.

    A workgroup is for ELEMENTS columns.
    """
    f, reads = _function(op, act), op != FILL

    def kernel(rows: A, x: A, y: A, ldx: U, ldy: U, width: U, a: F, b: F, c: F, d: F):
        row, first, at = group_y(), group_of_row() * ELEMENTS, thread()
        if row >= load_u32(rows):
            return
        x, y = x + 4 * row * ldx, y + 4 * row * ldy
        if reads and (x | y | 4 * width) & 15 == 0:
            i = 4 * (first + QUAD * at)
            if i < 4 * width:
                p, q, r, s = load_f32x4(x + i)
                values = f(p, a, b, c, d), f(q, a, b, c, d), f(r, a, b, c, d), f(s, a, b, c, d)
                store_f32x4(y + i, values)
        else:
            for j in unroll(QUAD):
                i = first + LANES * j + at
                if i < width:
                    v = load_f32(x + 4 * i) if reads else ZERO
                    store_f32(y + 4 * i, f(v, a, b, c, d))

    return kernel
