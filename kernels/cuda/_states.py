"""States of recurrent layers: where they are, and how the lanes of a warp share them.

A segment reads the state in one slot and leaves it in another. The workgroups of its first row take
it through all rows, token after token, so bits do not depend on how rows are cut into runs. A warp
has COLUMNS columns of a head's matrix; the rows of the matrix are cut into PARTS, each lane keeping
one part of a column in registers. Sums over rows are of parts first, then over the four lanes.
"""

import numpy as np

from jitllm.kernels.cuda._run import n_rows, segment_of
from jitllm.kernels.cuda._segments import ROW, ROWS, STATE_IN, STATE_OUT, segment_word
from jitllm.kernels.gpu.vocabulary import (
    divide_u32,
    group_y,
    inline,
    lane,
    load_f32,
    load_shared_f32x4,
    remainder_u32,
    shuffle_xor_f32,
    store_f32,
    store_shared_f32,
    sync_threads,
    thread,
    unroll,
    warp,
)

ZERO, ONE = np.float32(0), np.float32(1)
THREADS_OF_GROUP, COLUMNS, PARTS = 64, 8, 4
GROUPS_AT_ONCE = 4  # of a multiprocessor: there are few, and each waits for token after token
COLUMNS_OF_GROUP = COLUMNS * THREADS_OF_GROUP // 32


@inline
def rows_of_segment(run):
    """Return the segment whose rows begin at the workgroup's, its first row, and the end.

    The end is 0 where none begins.
    """
    row, segment, end = group_y(), 0, 0
    if row < n_rows(run):
        segment = segment_of(run, row)
        if segment_word(run, segment, ROW) == row:
            end = row + segment_word(run, segment, ROWS)
    return segment, row, end


@inline
def states_of(run, segment, states, slot_bytes):
    """Return the addresses of a segment's states before and behind its rows, 0 for none before."""
    slot, before = segment_word(run, segment, STATE_IN), 0
    if slot >= 0:
        before = states + slot * slot_bytes
    return before, states + segment_word(run, segment, STATE_OUT) * slot_bytes


@inline
def column_of_lane(block):
    """Return the column of a lane, of a head whose columns workgroups have `block` after block."""
    return COLUMNS_OF_GROUP * block + COLUMNS * warp() + (lane() & (COLUMNS - 1))


@inline
def over_parts(x):
    """Return the sum of what the lanes with the parts of a column have."""
    x += shuffle_xor_f32(x, COLUMNS)
    return x + shuffle_xor_f32(x, 2 * COLUMNS)


def part_of(rows, columns):
    """Make what a lane does with its part of a matrix [rows, columns].

    Returns
    -------
    n : int
        Rows of a part, a multiple of four; those behind the matrix, and columns behind it, are 0.
    load, store : functions
        f(state, at, column), from and to the matrix at address `at`; at 0 are zeros.
    """
    own = -(-rows // PARTS)
    n = -(-own // 4) * 4
    has_all_rows, has_all_columns = n * PARTS == rows, columns % COLUMNS_OF_GROUP == 0

    @inline
    def row_of(i):
        return own * (lane() >> 3) + i

    @inline
    def is_there(i, column):
        in_rows = has_all_rows or (i < own and row_of(i) < rows)
        return in_rows and (has_all_columns or column < columns)

    @inline
    def load(state, at, column):
        for i in unroll(n):
            state[i] = ZERO
            if at != 0 and is_there(i, column):
                state[i] = load_f32(at + 4 * (row_of(i) * columns + column))

    @inline
    def store(state, at, column):
        for i in unroll(n):
            if is_there(i, column):
                store_f32(at + 4 * (row_of(i) * columns + column), state[i])

    return n, load, store


def stage_of(rows, vectors):
    """Make what a workgroup does with the vectors of `rows` numbers that a token has.

    Each number is read once for all columns, a token ahead: threads hold their share of the next
    token's while they work on one, and put it to one of two places in shared memory.

    Returns
    -------
    held, nbytes : int
        Numbers that a thread holds, bytes of the two places.
    fetch : function
        f(next, which, x): hold a share of vector `which` at address x.
    place : function
        f(next, room, t): put what is held to its place, and return that; all threads meet.
    four : function
        f(at, which, i): numbers i to i + 3 of the lane's part, from a place.
    """
    own = -(-rows // PARTS)
    n = -(-own // 4) * 4
    stride = n + 4  # lanes of the four parts read from different banks
    vector = PARTS * stride
    share = -(-vector // THREADS_OF_GROUP)
    place_bytes = 4 * vectors * share * THREADS_OF_GROUP

    @inline
    def fetch(held, which, x):
        for i in unroll(share):
            at = thread() + THREADS_OF_GROUP * i
            part, j = divide_u32(at, stride), remainder_u32(at, stride)
            row = own * part + j
            held[share * which + i] = ZERO
            if j < own and row < rows:
                held[share * which + i] = load_f32(x + 4 * row)

    @inline
    def place(held, room, t):
        room += place_bytes * (t & 1)
        for i in unroll(vectors * share):
            store_shared_f32(room + 4 * (thread() + THREADS_OF_GROUP * i), held[i])
        sync_threads()  # the other place may still be read, this one is not any more
        return room

    @inline
    def four(room, which, i):
        at = which * share * THREADS_OF_GROUP + stride * (lane() >> 3) + i
        return load_shared_f32x4(room + 4 * at)

    return vectors * share, 2 * place_bytes, fetch, place, four
