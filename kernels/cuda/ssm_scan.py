"""Scan of a state space with one decay for each head (Dao and Gu, 2024, "Mamba-2")."""

from jitllm.kernels.cuda._activations import softplus
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
    exp,
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


def ssm_scan(heads, groups, head_dim, size, has_step, has_skip, has_shift):
    """Make the scan of `kernels.reference_ssm.ssm_scan`; the state is [heads, size, head_dim].

    The grid is (heads * blocks of COLUMNS_OF_GROUP columns, rows). A token reads a row of x, b, c
    and step, for 3 operations for each number of the state, which is read and written once a run.
    """
    n, load, store, number = part_of(size, head_dim)
    blocks, per_group = -(-head_dim // COLUMNS_OF_GROUP), heads // groups
    state_bytes = 4 * size * head_dim

    @inline
    def token(state, b, c, decay, value):
        total = ZERO
        for i in unroll(n):
            state[i] = fma(number(b, i), value, state[i] * decay)
            total = fma(state[i], number(c, i), total)
        return over_parts(total)

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
        at = 4 * (head * head_dim + i)
        for t in range(row, end):
            own, value, decay = ZERO, ZERO, exp(rate)
            if i < head_dim:
                own = load_f32(x + 4 * t * ldx + at)
            value = own
            if has_step:
                time = softplus(load_f32(step + 4 * (t * lds + head)) + moved)
                value, decay = own * time, exp(time * rate)
            keys, queries = b + 4 * (t * ldb + group * size), c + 4 * (t * ldc + group * size)
            total = token(state, keys, queries, decay, value)
            if lane() < 8 and i < head_dim:
                store_f32(y + 4 * t * ldy + at, fma(own, skip, total))
        store(state, behind + head * state_bytes, i)

    return kernel
