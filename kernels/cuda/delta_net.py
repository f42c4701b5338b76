"""The gated delta rule (Yang et al., "Gated Delta Networks", 2024), one token after the other."""

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
    n, load, store, number = part_of(dk, dv)
    blocks, state_bytes = -(-dv // COLUMNS_OF_GROUP), 4 * dk * dv

    @inline
    def key_head(head):
        return remainder_u32(head, key_heads) if tiled else divide_u32(head, heads // key_heads)

    @inline
    def kept(decay, i):
        return number(decay, i) if by_row else load_f32(decay)

    @inline
    def token(state, key, query, decay, value, beta):
        held, total = ZERO, ZERO
        for i in unroll(n):
            state[i] = state[i] * kept(decay, i)
            held = fma(state[i], number(key, i), held)
        change = (value - over_parts(held)) * beta
        for i in unroll(n):
            state[i] = fma(number(key, i), change, state[i])
            total = fma(state[i], number(query, i), total)
        return over_parts(total)

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
        state, at = registers_f32(n), 4 * (head * dv + i)
        factors = 4 * head * (dk if by_row else 1)
        load(state, before, i)
        for t in range(row, end):
            value = ZERO
            if i < dv:
                value = load_f32(v + 4 * t * ldv + at)
            key, query = k + 4 * t * ldk + read, q + 4 * t * ldq + read
            write = load_f32(beta + 4 * (t * ldb + head))
            total = token(state, key, query, decay + 4 * t * ldd + factors, value, write)
            if lane() < 8 and i < dv:
                store_f32(y + 4 * t * ldy + at, total * scale)
        store(state, behind + head * state_bytes, i)

    return kernel
