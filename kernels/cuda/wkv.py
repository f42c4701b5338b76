"""The recurrences of RWKV-6 and 7 (Peng et al., 2024 and 2025), one token after the other."""

import numpy as np

from jitllm.kernels.cuda._states import (
    COLUMNS_OF_GROUP,
    THREADS_OF_GROUP,
    ZERO,
    column_of_lane,
    over_parts,
    part_of,
    rows_of_segment,
    states_of,
)
from jitllm.kernels.gpu import (
    A,
    U,
    divide_u32,
    fma,
    group_of_row,
    inline,
    lane,
    load_f32,
    registers_f32,
    remainder_u32,
    store_f32,
    unroll,
)

THREADS = THREADS_OF_GROUP
ONE = np.float32(1)
BEFORE, GATED, DELTA = range(3)  # forms


def wkv(form, heads, key_heads, dk, dv):
    """Make the recurrence of `kernels.reference_wkv.wkv`; the state is [heads, dk, dv].

    `form` is a place in ("before", "gated", "delta"); erase and rate are of the last alone. The
    grid is (heads * blocks of COLUMNS_OF_GROUP columns, rows). A token is 3 operations for each
    number of the state, 5 in the form "delta"; the state is read and written once a run.
    """
    n, load, store, number = part_of(dk, dv)
    blocks, state_bytes, per_key = -(-dv // COLUMNS_OF_GROUP), 4 * dk * dv, heads // key_heads

    @inline
    def written(key, decay, i):
        x = number(key, i)
        return x * (ONE - number(decay, i)) if form == GATED else x

    @inline
    def token(state, reader, key, decay, erase, rate, value):
        held, total = ZERO, ZERO
        if form == DELTA:
            for i in unroll(n):
                held = fma(state[i], number(erase, i), held)
            held = over_parts(held)
        for i in unroll(n):
            new = fma(written(key, decay, i), value, state[i] * number(decay, i))
            if form == DELTA:
                new = fma(-number(rate, i) * number(erase, i), held, new)
            seen = state[i] if form == BEFORE else new
            total = fma(seen, number(reader, i), total)
            state[i] = new
        return over_parts(total)

    def kernel(
        run: A, r: A, k: A, v: A, w: A, erase: A, rate: A, y: A, states: A, ldr: U, ldk: U, ldv: U,
        ldw: U, lde: U, lda: U, ldy: U, slot_bytes: U,
    ):  # fmt: skip
        segment, row, end = rows_of_segment(run)
        if row >= end:
            return
        head, i = divide_u32(group_of_row(), blocks), remainder_u32(group_of_row(), blocks)
        i, key_head = column_of_lane(i), divide_u32(head, per_key)
        before, behind = states_of(run, segment, states, slot_bytes)
        if before != 0:
            before += head * state_bytes
        state, own = registers_f32(n), 4 * dk * head
        load(state, before, i)
        for t in range(row, end):
            value = ZERO
            if i < dv:
                value = load_f32(v + 4 * (t * ldv + key_head * dv + i))
            total = token(
                state, r + 4 * t * ldr + own, k + 4 * (t * ldk + key_head * dk),
                w + 4 * t * ldw + own, erase + 4 * t * lde + own, rate + 4 * t * lda + own, value,
            )  # fmt: skip
            if lane() < 8 and i < dv:
                store_f32(y + 4 * (t * ldy + head * dv + i), total)
        store(state, behind + head * state_bytes, i)

    return kernel
