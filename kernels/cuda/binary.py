"""y = f(a, b), element by element: four columns a thread, in 16-byte loads where rows allow it."""

from jitllm.kernels.cuda._activations import activation, bounded
from jitllm.kernels.cuda._grid import LANES, QUAD
from jitllm.kernels.cuda._layout import ELEMENTS
from jitllm.kernels.gpu.vocabulary import (
    A,
    F,
    U,
    divide_u32,
    group_of_row,
    group_y,
    inline,
    load_f32,
    load_f32x4,
    load_u32,
    store_f32,
    store_f32x4,
    thread,
    unroll,
)

THREADS = LANES


@inline
def _add(s, t, low, high):
    return s + t


@inline
def _mul(s, t, low, high):
    return s * t


def _glu(act):
    f = activation(act)

    @inline
    def glu(s, t, low, high):
        return f(s) * t

    return glu


def _gated(act):
    f = activation(act)

    @inline
    def gated(s, t, low, high):
        return s * f(t)

    return gated


def function(op, act):
    """Return f(s, t, low, high) of a case."""
    return (lambda _: _add, lambda _: _mul, _glu, bounded, _gated)[op](act)


def binary(op, act):
    """Make y = f(a, b) for a case of `op` (`backends._gpu.core`).

    b may be one row for all (ldb = 0), or one number for `part` columns beside each other: a head,
    or the row. A workgroup is for ELEMENTS columns.
    """
    f = function(op, act)

    def kernel(
        rows: A, a: A, b: A, y: A,
        lda: U, ldb: U, ldy: U, width: U, part: U, low: F, high: F,
    ):  # fmt: skip
        row, first, at = group_y(), group_of_row() * ELEMENTS, thread()
        if row >= load_u32(rows):
            return
        a, b, y = a + 4 * row * lda, b + 4 * row * ldb, y + 4 * row * ldy
        if part == 1 and (a | b | y | 4 * width) & 15 == 0:
            i = 4 * (first + QUAD * at)
            if i < 4 * width:
                s, t = load_f32x4(a + i), load_f32x4(b + i)
                values = (
                    f(s[0], t[0], low, high), f(s[1], t[1], low, high),
                    f(s[2], t[2], low, high), f(s[3], t[3], low, high),
                )  # fmt: skip
                store_f32x4(y + i, values)
        else:
            for j in unroll(QUAD):
                i = first + LANES * j + at
                if i < width:
                    t = load_f32(b + 4 * divide_u32(i, part))
                    store_f32(y + 4 * i, f(load_f32(a + 4 * i), t, low, high))

    return kernel
