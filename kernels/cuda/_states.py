"""States of recurrent layers: where they are, and how the lanes of a warp share them.

A segment reads the state in one slot and leaves it in another. The workgroups of its first row take
it through all rows, token after token, so bits do not depend on how rows are cut into runs. A warp
has COLUMNS columns of a head's matrix; the rows of the matrix are cut into PARTS, each lane keeping
one part of a column in registers. Sums over rows are of parts first, then over the four lanes.
"""

import numpy as np

from jitllm.kernels.cuda._run import n_rows, segment_of
from jitllm.kernels.cuda._segments import ROW, ROWS, STATE_IN, STATE_OUT, segment_word
from jitllm.kernels.gpu import (
    group_y,
    inline,
    lane,
    load_f32,
    shuffle_xor_f32,
    store_f32,
    unroll,
    warp,
)

ZERO = np.float32(0)
THREADS_OF_GROUP, COLUMNS, PARTS = 64, 8, 4
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
        Rows of a part; those behind the matrix, and columns behind it, are 0.
    load, store : functions
        f(state, at, column), from and to the matrix at address `at`; at 0 are zeros.
    number : function
        f(x, i): number i of the lane's part of a vector of `rows` numbers at x.
    """
    n = -(-rows // PARTS)
    is_whole, has_all_columns = n * PARTS == rows, columns % COLUMNS_OF_GROUP == 0

    @inline
    def row_of(i):
        return n * (lane() >> 3) + i

    @inline
    def is_there(i, column):
        return (is_whole or row_of(i) < rows) and (has_all_columns or column < columns)

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

    @inline
    def number(x, i):
        if is_whole or row_of(i) < rows:
            return load_f32(x + 4 * row_of(i))
        return ZERO

    return n, load, store, number
