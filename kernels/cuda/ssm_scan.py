"""Scan of a state space with one decay for each head (Dao and Gu, 2024, "Mamba-2")."""

from jitllm.kernels.cuda._activations import softplus
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
    exp,
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


def ssm_scan(heads, groups, head_dim, size, has_step, has_skip, has_shift):
    """Make the scan of `kernels.reference_ssm.ssm_scan`; the state is [heads, size, head_dim].

    The grid is (heads * blocks of COLUMNS_OF_GROUP columns, rows). A token reads a row of x, b, c
    and step, for 3 operations for each number of the state, which is read and written once a run.
    """
    (n, load, store), (n_held, room_bytes, fetch, place, four) = (
        part_of(size, head_dim), stage_of(size, 2)
    )  # fmt: skip
    blocks, per_group = -(-head_dim // COLUMNS_OF_GROUP), heads // groups
    state_bytes = 4 * size * head_dim

    @inline
    def token(state, at, decay, value):
        total = ZERO
        for i in unroll(n // 4):
            keys, queries = four(at, 0, 4 * i), four(at, 1, 4 * i)
            for e in unroll(4):
                state[4 * i + e] = fma(keys[e], value, state[4 * i + e] * decay)
                total = fma(state[4 * i + e], queries[e], total)
        return over_parts(total)

    @inline
    def numbers(x, step, i, head, moved, rate):
        """Return a token's number of the column, the same times its step, and the decay."""
        own, time = ZERO, ONE
        if i < head_dim:
            own = load_f32(x + 4 * (head * head_dim + i))
        if has_step:
            time = softplus(load_f32(step + 4 * head) + moved)
        return own, own * time, exp(time * rate)

    def kernel(
        run: A, x: A, b: A, c: A, step: A, y: A, a: A, d: A, shift: A, states: A, ldx: U, ldb: U,
        ldc: U, lds: U, ldy: U, slot_bytes: U,
    ):  # fmt: skip
        segment, row, end = rows_of_segment(run)
        if row >= end:
            return
        head, i = divide_u32(group_of_row(), blocks), remainder_u32(group_of_row(), blocks)
        i, group = column_of_lane(i), divide_u32(head, per_group)
        before, behind = states_of(run, segment, states, slot_bytes)
        if before != 0:
            before += head * state_bytes
        state, rate, skip, moved = registers_f32(n), load_f32(a + 4 * head), ZERO, ZERO
        load(state, before, i)
        if has_skip:
            skip = load_f32(d + 4 * head)
        if has_shift:
            moved = load_f32(shift + 4 * head)
        room, held = shared(room_bytes), registers_f32(n_held)
        b, c = b + 4 * group * size, c + 4 * group * size
        fetch(held, 0, b + 4 * row * ldb)
        fetch(held, 1, c + 4 * row * ldc)
        own, value, decay = numbers(x + 4 * row * ldx, step + 4 * row * lds, i, head, moved, rate)
        for t in range(row, end):
            at, following = place(held, room, t), min(t + 1, end - 1)
            fetch(held, 0, b + 4 * following * ldb)
            fetch(held, 1, c + 4 * following * ldc)
            now = own
            then = numbers(
                x + 4 * following * ldx, step + 4 * following * lds, i, head, moved, rate
            )
            total = token(state, at, decay, value)
            if lane() < 8 and i < head_dim:
                store_f32(y + 4 * (t * ldy + head * head_dim + i), fma(now, skip, total))
            own, value, decay = then
        store(state, behind + head * state_bytes, i)

    kernel.groups = GROUPS_AT_ONCE
    return kernel
