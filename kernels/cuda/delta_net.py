"""The gated delta rule (Yang et al., "Gated Delta Networks", 2024), one token after the other."""

from jitllm.kernels.cuda._states import (
    COLUMNS_OF_GROUP,
    GROUPS_AT_ONCE,
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
    F,
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


def delta_net(heads, key_heads, dk, dv, tiled, by_row):
    """Make the recurrence of `kernels.reference_delta.delta_net`; the state is [heads, dk, dv].

    With `by_row`, decay has a number for each row of a state, else one for each head. The grid is
    (heads * blocks of COLUMNS_OF_GROUP columns, rows). A token is 5 operations for each number of
    the state, which is read and written once a run.
    """
    (n, load, store), (n_held, room_bytes, fetch, place, four) = (
        part_of(dk, dv), stage_of(dk, 3 if by_row else 2)
    )  # fmt: skip
    blocks, state_bytes = -(-dv // COLUMNS_OF_GROUP), 4 * dk * dv

    @inline
    def key_head(head):
        return remainder_u32(head, key_heads) if tiled else divide_u32(head, heads // key_heads)

    @inline
    def token(state, at, decay, value, beta):
        held, total = ZERO, ZERO
        for i in unroll(n // 4):
            keys = four(at, 0, 4 * i)
            if by_row:
                decays = four(at, 2, 4 * i)
            else:
                decays = decay, decay, decay, decay
            for e in unroll(4):
                state[4 * i + e] = state[4 * i + e] * decays[e]
                held = fma(state[4 * i + e], keys[e], held)
        change = (value - over_parts(held)) * beta
        for i in unroll(n // 4):
            keys, queries = four(at, 0, 4 * i), four(at, 1, 4 * i)
            for e in unroll(4):
                state[4 * i + e] = fma(keys[e], change, state[4 * i + e])
                total = fma(state[4 * i + e], queries[e], total)
        return over_parts(total)

    @inline
    def hold(held, q, k, decay):
        fetch(held, 0, k)
        fetch(held, 1, q)
        if by_row:
            fetch(held, 2, decay)

    @inline
    def numbers(v, decay, beta, i):
        """Return a token's value of the column, and the head's decay and beta."""
        value, kept = ZERO, ZERO
        if i < dv:
            value = load_f32(v + 4 * i)
        if not by_row:
            kept = load_f32(decay)
        return value, kept, load_f32(beta)

    def kernel(
        run: A, q: A, k: A, v: A, decay: A, beta: A, y: A, states: A, ldq: U, ldk: U, ldv: U,
        ldd: U, ldb: U, ldy: U, slot_bytes: U, scale: F,
    ):  # fmt: skip
        segment, row, end = rows_of_segment(run)
        if row >= end:
            return
        head, i = divide_u32(group_of_row(), blocks), remainder_u32(group_of_row(), blocks)
        i, read = column_of_lane(i), 4 * dk * key_head(head)
        before, behind = states_of(run, segment, states, slot_bytes)
        if before != 0:
            before += head * state_bytes
        q, k, v, y = q + read, k + read, v + 4 * head * dv, y + 4 * head * dv
        decay, beta = decay + 4 * head * (dk if by_row else 1), beta + 4 * head
        state, held, room = registers_f32(n), registers_f32(n_held), shared(room_bytes)
        load(state, before, i)
        hold(held, q + 4 * row * ldq, k + 4 * row * ldk, decay + 4 * row * ldd)
        value, kept, write = numbers(
            v + 4 * row * ldv, decay + 4 * row * ldd, beta + 4 * row * ldb, i
        )
        for t in range(row, end):
            at, following = place(held, room, t), 4 * min(t + 1, end - 1)
            hold(held, q + following * ldq, k + following * ldk, decay + following * ldd)
            then = numbers(v + following * ldv, decay + following * ldd, beta + following * ldb, i)
            total = token(state, at, kept, value, write)
            if lane() < 8 and i < dv:
                store_f32(y + 4 * (t * ldy + i), total * scale)
            value, kept, write = then
        store(state, behind + head * state_bytes, i)

    kernel.groups = GROUPS_AT_ONCE
    return kernel
