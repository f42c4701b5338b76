"""How much of its state a recurrent layer keeps at a token: numbers in (0, 1) from a projection.

About 40 vector operations per 16 numbers, of which a model has one per head or one per key column:
little beside the states themselves.
"""

from jitllm.kernels.cpu import vmath
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.rows import next_rows, row_count
from jitllm.kernels.cpu.softplus import softplus
from jitllm.kernels.simd import load_f32, load_f32x16, load_i64, splat_f32, store_f32x16


@inline
def _softplus(x, rate, bound):
    return vmath.exp(rate * softplus(x))


@inline
def _exp(x, rate, bound):
    return vmath.exp(rate * vmath.exp(x))


@inline
def _sigmoid(x, rate, bound):
    return vmath.exp(bound * vmath.sigmoid(rate * x))


FORMS = {"softplus": _softplus, "exp": _exp, "sigmoid": _sigmoid}


def decay_gate(*, form):
    """Make the kernel of `DECAY_GATE` of `cpu_ops`.

    Parameters
    ----------
    form : str
        "softplus" or "exp", the act of exp(rate * act(x + shift)), or "sigmoid" for
        exp(bound * sigmoid(rate * (x + shift))).
    """
    decay = FORMS[form]

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
