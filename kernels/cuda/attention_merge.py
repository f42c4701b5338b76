"""The parts of attention that `attention_tile` leaves, put together in ascending order.

Two reads that wait for nothing but memory: all maxima and weights at once, a thread for each part,
then all sums, teams of threads taking every so many parts.
"""

from jitllm.kernels.cuda._layout import MERGED_COLUMNS, RECORD
from jitllm.kernels.cuda._reduce import group_max, group_sum
from jitllm.kernels.cuda._rounding import store_rounded
from jitllm.kernels.cuda._run import n_rows
from jitllm.kernels.cuda._scores import LOWEST, ONE, ZERO
from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    as_f32,
    as_i32,
    exp,
    fma,
    group_of_row,
    group_y,
    inline,
    load_f32,
    load_f32x2,
    load_f32x4,
    load_shared_f32,
    load_shared_f32x4,
    maximum,
    minimum,
    registers_f32,
    shared,
    store_f32x4,
    store_shared_f32,
    store_shared_f32x4,
    sync_threads,
    thread,
    to_i32,
    unroll,
)

THREADS = MERGED_COLUMNS // 4
AHEAD = 8  # parts that a thread asks for before it waits


def attention_merge(dv, parts, sinks, rounds):
    """Make y = sum of parts / sum of weights for every row and head; the grid is (heads, rows).

    `partial` is float32 [rows, heads, parts, dv + RECORD], its rows ldp floats apart; a sink enters
    the sum of weights as one more logit. Parts without weight count for nothing, whatever they
    hold. dv is a multiple of 4 and at most MERGED_COLUMNS, parts are at most THREADS.
    If it `rounds`, where dv is one of 32, q gets what `quantize` makes of y with `width` columns.
    """
    record, factor_bytes, quads = 4 * (dv + RECORD), 4 * parts, dv // 4
    teams = min(THREADS // quads, parts)
    room_bytes, turns, others = 16 * quads * teams, -(-parts // teams), teams - 1
    ahead = min(AHEAD, turns)
    n_ahead = 4 * ahead
    largest, total_of = group_max(THREADS), group_sum(THREADS)

    @inline
    def sums_of_team(first, factors, team, i):
        """Add four columns of every part that a team has."""
        a = b = c = d = ZERO
        for start in range(0, turns, ahead):
            v, f = registers_f32(n_ahead), registers_f32(ahead)
            for j in unroll(ahead):
                p = (start + j) * teams + team
                factor = load_shared_f32(factors + 4 * minimum(p, parts - 1))
                f[j] = factor if p < parts else ZERO
                mask = -1 if f[j] > ZERO else 0  # in place of branches, in which loads would wait
                loaded = load_f32x4(first + (p * record & mask) + 16 * i)
                for k in unroll(4):
                    v[4 * j + k] = as_f32(to_i32(as_i32(loaded[k]) & mask))
            for j in unroll(ahead):
                a, b = fma(v[4 * j], f[j], a), fma(v[4 * j + 1], f[j], b)
                c, d = fma(v[4 * j + 2], f[j], c), fma(v[4 * j + 3], f[j], d)
        return a, b, c, d

    @inline
    def sum_of_teams(room, i):
        a, b, c, d = load_shared_f32x4(room + 16 * i)
        for team in unroll(others):
            v = load_shared_f32x4(room + 16 * (quads * (team + 1) + i))
            a, b, c, d = a + v[0], b + v[1], c + v[2], d + v[3]
        return a, b, c, d

    @inline
    def weigh(first, own, factors):
        """Share what each part counts; returns by what sums are to be multiplied."""
        top, weight, p = own, ZERO, thread()
        if p < parts:
            top, weight = load_f32x2(first + p * record + 4 * dv)
        most = maximum(largest(top), own)
        factor = exp(top - most) if weight > ZERO else ZERO
        if p < parts:
            store_shared_f32(factors + 4 * p, factor)
        total = total_of(weight * factor)  # waits for all factors, too
        if sinks:
            total += exp(own - most)
        return ONE / total if total > ZERO else ZERO

    def kernel(run: A, partial: A, y: A, sink: A, q: A, ldp: U, ldy: U, width: U):
        row, head, count = group_y(), group_of_row(), n_rows(run)
        if row >= count:
            return
        factors, room = shared(factor_bytes), shared(room_bytes)
        first = partial + 4 * row * ldp + head * parts * record
        scale = weigh(first, load_f32(sink + 4 * head) if sinks else LOWEST, factors)
        team, i = thread() // quads, thread() % quads
        if team < teams:
            store_shared_f32x4(room + 16 * thread(), sums_of_team(first, factors, team, i))
        sync_threads()
        at, v = width, (ZERO, ZERO, ZERO, ZERO)
        if thread() < quads:
            at, v = head * dv + 4 * thread(), sum_of_teams(room, thread())
            v = (v[0] * scale, v[1] * scale, v[2] * scale, v[3] * scale)
            store_f32x4(y + 4 * (row * ldy + at), v)
        if rounds:
            store_rounded(v[0], v[1], v[2], v[3], q, row, count, at, width)

    kernel.groups = 2  # registers for all that is asked for at once
    return kernel
