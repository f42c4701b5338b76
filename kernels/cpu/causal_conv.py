"""Short causal convolution of every column over the tokens of a sequence, with a carried state.

A thread takes BLOCK columns of one sequence through all rows. Per output and tap: 4 bytes read from
the first-level cache, one fma; with `silu` the activation is most of the work. Taps are added in
the order of their tokens, so bits do not depend on how rows are cut into runs.
"""

from jitllm.kernels.cpu.activation import silu
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.states import over_columns, segment_rows, segment_states
from jitllm.kernels.cpu.vmath import ZERO, load_part, store_part
from jitllm.kernels.simd import fma, load_f32x16, load_i64, splat_f32, store_f32x16

BLOCK = 256  # columns of a unit of work


@inline
def _identity(x):
    return x


ACTS = {"": _identity, "silu": silu}


@inline
def _earlier(x, ldx, past, width, taps, row, n):
    """Return 16 columns of row `row`; rows below 0 are in the state at `past`, 0 for zeros."""
    value = splat_f32(ZERO)
    if row >= 0:
        value = load_f32x16(x + row * ldx)
    elif past != 0:
        value = load_part(past + 4 * width * (taps - 1 + row), n)
    return value


def causal_conv(*, act, taps):
    """Make the kernel y[t] = act(sum over j of w[j] * x[t - (taps - 1) + j] + bias).

    Parameters
    ----------
    act : str
        "silu" or "".
    taps : int
    """
    function = ACTS[act]

    @inline
    def columns(x, ldx, y, ldy, past, width, n, rows, w, ldw, bias):
        for row in range(rows):
            total = splat_f32(ZERO)
            for j in range(taps):
                value = _earlier(x, ldx, past, width, taps, row - (taps - 1) + j, n)
                total = fma(value, load_f32x16(w + j * ldw), total)
            if bias != 0:
                total = total + load_f32x16(bias)
            store_f32x16(y + row * ldy, function(total))

    @inline
    def keep(x, ldx, past, target, width, n, rows):
        for j in range(taps - 1):
            value = _earlier(x, ldx, past, width, taps, rows - (taps - 1) + j, n)
            store_part(target + 4 * width * j, value, n)

    @inline
    def piece(args, segment, head, start, n_columns):
        x, ldx, y, ldy = (load_i64(args + 8), load_i64(args + 16), load_i64(args + 24),
                          load_i64(args + 32))  # fmt: skip
        width, w, ldw, bias = (load_i64(args + 40), load_i64(args + 48), load_i64(args + 56),
                               load_i64(args + 64))  # fmt: skip
        before, target = segment_states(segment, load_i64(args + 72), load_i64(args + 80))
        first, end = segment_rows(segment)
        for i in range(start, start + n_columns, 16):
            at, n = 4 * i, min(16, width - i)
            past = before + at if before != 0 else 0
            shift = bias + at if bias != 0 else 0
            source, rows = x + first * ldx + at, end - first
            columns(source, ldx, y + first * ldy + at, ldy, past, width, n, rows, w + at, ldw,
                    shift)  # fmt: skip
            keep(source, ldx, past, target + at, width, n, rows)

    return over_columns(piece, columns=40, block=BLOCK)
