"""The recurrences of RWKV-6 and 7 (Peng et al., 2024 and 2025), one token after the other."""

from jitllm.kernels.cuda._states import (
    COLUMNS_OF_GROUP,
    GROUPS_AT_ONCE,
    ONE,
    THREADS_OF_GROUP,
    ZERO,
    column_of_lane,
    over_parts,
    part_of,
    rows_of_segment,
    stage_of,
    states_of,
)
from jitllm.kernels.gpu.vocabulary import (
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
    shared,
    store_f32,
    unroll,
)

THREADS = THREADS_OF_GROUP
BEFORE, GATED, DELTA = range(3)  # forms


def wkv(form, heads, key_heads, dk, dv):
    """Make the recurrence of `kernels.reference_wkv.wkv`; the state is [heads, dk, dv].

    `form` is a place in ("before", "gated", "delta"); erase and rate are of the last alone. The
    grid is (heads * blocks of COLUMNS_OF_GROUP columns, rows). A token is 3 operations for each
    number of the state, 5 in the form "delta"; the state is read and written once a run.
    """
    (n, load, store), (n_held, room_bytes, fetch, place, four) = (
        part_of(dk, dv), stage_of(dk, 5 if form == DELTA else 3)
    )  # fmt: skip
    blocks, state_bytes, per_key = -(-dv // COLUMNS_OF_GROUP), 4 * dk * dv, heads // key_heads

    @inline
    def held_along(state, at):
        """Return what a column holds along e."""
        total = ZERO
        for i in unroll(n // 4):
            erase = four(at, 3, 4 * i)
            for e in unroll(4):
                total = fma(state[4 * i + e], erase[e], total)
        return over_parts(total)

    @inline
    def token(state, at, value):
        held, total = ZERO, ZERO
        if form == DELTA:
            held = held_along(state, at)
        for i in unroll(n // 4):
            readers, keys, decays = four(at, 0, 4 * i), four(at, 1, 4 * i), four(at, 2, 4 * i)
            erase, rates = readers, readers
            if form == DELTA:
                erase, rates = four(at, 3, 4 * i), four(at, 4, 4 * i)
            for e in unroll(4):
                old, key = state[4 * i + e], keys[e]
                if form == GATED:
                    key = key * (ONE - decays[e])
                new = fma(key, value, old * decays[e])
                if form == DELTA:
                    new = fma(-rates[e] * erase[e], held, new)
                total = fma(old if form == BEFORE else new, readers[e], total)
                state[4 * i + e] = new
        return over_parts(total)

    @inline
    def hold(held, r, k, w, erase, rate):
        fetch(held, 0, r)
        fetch(held, 1, k)
        fetch(held, 2, w)
        if form == DELTA:
            fetch(held, 3, erase)
            fetch(held, 4, rate)

    @inline
    def number(v, i):
        return load_f32(v + 4 * i) if i < dv else ZERO

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
        state, held, room = registers_f32(n), registers_f32(n_held), shared(room_bytes)
        own = 4 * dk * head
        r, w, erase, rate = r + own, w + own, erase + own, rate + own
        k, v, y = k + 4 * dk * key_head, v + 4 * dv * key_head, y + 4 * dv * head
        load(state, before, i)
        t = 4 * row
        hold(held, r + t * ldr, k + t * ldk, w + t * ldw, erase + t * lde, rate + t * lda)
        value = number(v + t * ldv, i)
        for now in range(row, end):
            at, t = place(held, room, now), 4 * min(now + 1, end - 1)
            hold(held, r + t * ldr, k + t * ldk, w + t * ldw, erase + t * lde, rate + t * lda)
            then = number(v + t * ldv, i)
            total = token(state, at, value)
            if lane() < 8 and i < dv:
                store_f32(y + 4 * (now * ldy + i), total)
            value = then
        store(state, behind + head * state_bytes, i)

    kernel.groups = GROUPS_AT_ONCE
    return kernel
