"""Short causal convolution of every column over the tokens of a sequence, with a carried state."""

from jitllm.kernels.cuda._grid import column
from jitllm.kernels.cuda._run import n_rows, segment_of
from jitllm.kernels.cuda._segments import ROW, ROWS, segment_word
from jitllm.kernels.cuda._states import ZERO, states_of
from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    fma,
    group_y,
    inline,
    load_f32,
    sigmoid,
    store_f32,
    unroll,
)

THREADS = 64


@inline
def _earlier(x, ldx, past, width, before, row):
    """Return a column of a segment's row `row`; those below 0 are in the state at `past`.

    The state has `before` rows; they are zeros if `past` is 0.
    """
    if row >= 0:
        return load_f32(x + 4 * row * ldx)
    if past != 0:
        return load_f32(past + 4 * width * (before + row))
    return ZERO


def causal_conv(taps, has_bias, is_silu):
    """Make y[t] = act(sum over j of w[j] * x[t - (taps - 1) + j] + bias), taps in ascending order.

    w is float32 [taps, width], a state [taps - 1, width]. The grid is (blocks of 64 columns, rows):
    rows need nothing of each other, and that of a segment's last row writes the state.
    """
    before = taps - 1

    def kernel(
        run: A, x: A, y: A, w: A, bias: A, states: A, ldx: U, ldy: U, width: U, slot_bytes: U
    ):
        row, i = group_y(), column()
        if row >= n_rows(run) or i >= width:
            return
        segment = segment_of(run, row)
        first, rows = segment_word(run, segment, ROW), segment_word(run, segment, ROWS)
        past, target = states_of(run, segment, states, slot_bytes)
        if past != 0:
            past += 4 * i
        own, t, total = x + 4 * (first * ldx + i), row - first, ZERO
        for j in unroll(taps):
            value = _earlier(own, ldx, past, width, before, t - before + j)
            total = fma(value, load_f32(w + 4 * (j * width + i)), total)
        if has_bias:
            total += load_f32(bias + 4 * i)
        if is_silu:
            total *= sigmoid(total)
        store_f32(y + 4 * (row * ldy + i), total)
        if t == rows - 1:
            for j in unroll(before):
                value = _earlier(own, ldx, past, width, before, rows - before + j)
                store_f32(target + 4 * (j * width + i), value)

    return kernel
