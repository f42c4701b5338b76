"""The parts of attention that `attention_tile` leaves, put together in ascending order."""

from jitllm.kernels.cuda._layout import RECORD
from jitllm.kernels.cuda._rounding import store_rounded
from jitllm.kernels.cuda._run import n_rows
from jitllm.kernels.cuda._scores import LOWEST, ONE, ZERO
from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    exp,
    fma,
    group_of_row,
    group_y,
    inline,
    load_f32,
    load_f32x4,
    load_shared_f32,
    maximum,
    shared,
    store_f32x4,
    store_shared_f32,
    sync_threads,
    thread,
)

THREADS = 64


def attention_merge(dv, parts, sinks, rounds):
    """Make y = sum of parts / sum of weights for every row and head; the grid is (heads, rows).

    `partial` is float32 [rows, heads, parts, dv + RECORD], its rows ldp floats apart; a sink enters
    the sum of weights as one more logit. Parts without weight are not read. dv is a multiple of 4.
    If it `rounds`, where dv is one of 32, q gets what `quantize` makes of y with `width` columns.
    """
    record, factor_bytes = 4 * (dv + RECORD), 4 * parts

    @inline
    def sum_of(first, factors, i):
        a = b = c = d = ZERO
        for p in range(parts):
            factor = load_shared_f32(factors + 4 * p)
            if factor > ZERO:
                v = load_f32x4(first + p * record + 4 * i)
                a, b = fma(v[0], factor, a), fma(v[1], factor, b)
                c, d = fma(v[2], factor, c), fma(v[3], factor, d)
        return a, b, c, d

    def kernel(run: A, partial: A, y: A, sink: A, q: A, ldp: U, ldy: U, width: U):
        row, head, count = group_y(), group_of_row(), n_rows(run)
        if row >= count:
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
        for start in range(0, dv, 4 * THREADS):
            i, at, a, b, c, d = start + 4 * thread(), width, ZERO, ZERO, ZERO, ZERO
            if i < dv:
                at = head * dv + i
                a, b, c, d = sum_of(first, factors, i)
                a, b, c, d = a * scale, b * scale, c * scale, d * scale
                store_f32x4(y + 4 * (row * ldy + at), (a, b, c, d))
            if rounds:
                store_rounded(a, b, c, d, q, row, count, at, width)

    return kernel
