"""How much of its state a recurrent layer keeps at a token: numbers in (0, 1)."""

from jitllm.kernels.cuda._activations import softplus
from jitllm.kernels.cuda._grid import column
from jitllm.kernels.gpu.vocabulary import (
    A,
    F,
    U,
    divide_u32,
    exp,
    group_y,
    inline,
    load_f32,
    load_u32,
    sigmoid,
    store_f32,
)

THREADS = 64


@inline
def _softplus(x, rate, bound):
    return exp(rate * softplus(x))


@inline
def _exp(x, rate, bound):
    return exp(rate * exp(x))


@inline
def _sigmoid(x, rate, bound):
    return exp(bound * sigmoid(rate * x))


def decay_gate(form):
    """Make y = exp(rate * act(x + shift)), act being softplus (0) or exp (1).

    Form 2 is y = exp(bound * sigmoid(rate * (x + shift))). A rate is for `part` columns.
    """
    decay = (_softplus, _exp, _sigmoid)[form]

    def kernel(
        rows: A, x: A, shift: A, rate: A, y: A, ldx: U, ldy: U, width: U, part: U, bound: F
    ):  # fmt: skip
        i, row = column(), group_y()
        if row >= load_u32(rows) or i >= width:
            return
        v = load_f32(x + 4 * (row * ldx + i)) + load_f32(shift + 4 * i)
        own = load_f32(rate + 4 * divide_u32(i, part))
        store_f32(y + 4 * (row * ldy + i), decay(v, own, bound))

    return kernel
