"""y = f(a, b), element by element."""

from jitllm.kernels.cuda._activations import activation, bounded
from jitllm.kernels.cuda._grid import column
from jitllm.kernels.gpu import A, F, U, divide_u32, group_y, inline, load_f32, load_u32, store_f32

THREADS = 64


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


def _function(op, act):
    """Return f(s, t, low, high) of a case."""
    return (lambda _: _add, lambda _: _mul, _glu, bounded, _gated)[op](act)


def binary(op, act):
    """Make y = f(a, b) for a case of `op` (`backends._gpu_core`).

    b may be one row for all (ldb = 0), or one number for `part` columns beside each other: a head,
    or the row.
    """
    f = _function(op, act)

    def kernel(
        rows: A, a: A, b: A, y: A,
        lda: U, ldb: U, ldy: U, width: U, part: U, low: F, high: F,
    ):  # fmt: skip
        i, row = column(), group_y()
        if row >= load_u32(rows) or i >= width:
            return
        other = i if part == 1 else divide_u32(i, part)
        s, t = load_f32(a + 4 * (row * lda + i)), load_f32(b + 4 * (row * ldb + other))
        store_f32(y + 4 * (row * ldy + i), f(s, t, low, high))

    return kernel
