"""The parts of attention that `attention_tile` leaves, put together in ascending order."""

from jitllm.kernels.cuda._layout import RECORD
from jitllm.kernels.cuda._run import n_rows
from jitllm.kernels.cuda._scores import LOWEST, ONE, ZERO
from jitllm.kernels.gpu import (
    A,
    U,
    exp,
    fma,
    group_of_row,
    group_y,
    load_f32,
    load_shared_f32,
    maximum,
    shared,
    store_f32,
    store_shared_f32,
    sync_threads,
    thread,
)

THREADS = 64


def attention_merge(dv, parts, sinks):
    """Make y = sum of parts / sum of weights for every row and head; the grid is (heads, rows).

    `partial` is float32 [rows, heads, parts, dv + RECORD], its rows ldp floats apart; a sink enters
    the sum of weights as one more logit. Parts without weight are not read.
    """
    record, factor_bytes = 4 * (dv + RECORD), 4 * parts

    def kernel(run: A, partial: A, y: A, sink: A, ldp: U, ldy: U):
        row, head = group_y(), group_of_row()
        if row >= n_rows(run):
            return
        factors = shared(factor_bytes)
        first = partial + 4 * row * ldp + head * parts * record
        top, total = LOWEST, ZERO
        if sinks:
            top, total = load_f32(sink + 4 * head), ONE
        own = top
        for p in range(parts):
            top = maximum(top, load_f32(first + p * record + 4 * dv))
        if sinks:
            total = exp(own - top)
        for p in range(thread(), parts, THREADS):
            at = first + p * record + 4 * dv
            weight = load_f32(at + 4)
            factor = exp(load_f32(at) - top) if weight > ZERO else ZERO
            store_shared_f32(factors + 4 * p, factor)
        sync_threads()
        for p in range(parts):
            weight = load_f32(first + p * record + 4 * dv + 4)
            total = fma(weight, load_shared_f32(factors + 4 * p), total)
        scale = ONE / total if total > ZERO else ZERO
        for i in range(thread(), dv, THREADS):
            x = ZERO
            for p in range(parts):
                factor = load_shared_f32(factors + 4 * p)
                if factor > ZERO:
                    x = fma(load_f32(first + p * record + 4 * i), factor, x)
            store_f32(y + 4 * (row * ldy + head * dv + i), x * scale)

    return kernel
