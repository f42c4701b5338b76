"""What lanes and warps of `attention_tile` keep in shared memory, as registers are scarce.

A lane keeps what it has summed (`_attention_steps.softmax_of`), a warp notes of four numbers: of
its tokens, of cells, of pages, of its place in the grid, and of each of its 16 rows (position,
first cell seen, the one behind the last, head).
"""

from jitllm.kernels.cuda._layout import ROWS_OF_WARP, heads_of_tile
from jitllm.kernels.gpu.vocabulary import (
    divide_u32,
    inline,
    lane,
    load_shared_i32x4,
    minimum,
    remainder_u32,
    store_shared_i32x4,
    to_i32,
)

WARPS = 4  # of a workgroup
STEP_BYTES = 16 * 32 * WARPS  # 16 of each lane
SEEN_AT, PAGES_AT, PLACE_AT, ROWS_AT = 16, 32, 48, 64
NOTES_BYTES = ROWS_AT + 16 * ROWS_OF_WARP


@inline
def row_note(notes, half):
    """Return where the note of one of a lane's rows is, `half` of two."""
    return notes + ROWS_AT + 16 * ((lane() >> 2) + 8 * half)


@inline
def note_words(at, a, b, c, d):
    """Note four numbers of the warp, whose lanes are done with those before."""
    if lane() == 0:
        store_shared_i32x4(at, (to_i32(a), to_i32(b), to_i32(c), to_i32(d)))


@inline
def noted_table(at):
    """Return where page numbers are and how many, and the block to stop at."""
    low, high, length, stop_block = load_shared_i32x4(at)
    return low & 0xFFFFFFFF | high << 32, length, stop_block


def noter(seen, group, dk):
    """Make what notes position, cells and head of a lane's two rows.

    A row that is not there has head -1, and does what one that is there does. Returned is where
    the lane's first numbers of their queries are.
    """
    heads = heads_of_tile(group)

    @inline
    def note_row(
        q, ldq, notes, half, token, start, last, begin, end, window, first_head, key_head
    ):  # fmt: skip
        number = (lane() >> 2) + 8 * half
        ahead, head = divide_u32(number, heads), first_head + remainder_u32(number, heads)
        is_there = ahead <= last and head < group
        ahead, head = minimum(ahead, last), group * key_head + minimum(head, group - 1)
        first, end = seen(start + ahead, begin, end, window)
        words = to_i32(start + ahead), to_i32(first), to_i32(end), to_i32(head if is_there else -1)
        if lane() & 3 == 0:
            store_shared_i32x4(row_note(notes, half), words)
        return q + 4 * ((token + ahead) * ldq + head * dk + 4 * (lane() & 3))

    @inline
    def note_rows(q, ldq, notes, token, start, last, begin, end, window, first_head, key_head):
        upper = note_row(
            q, ldq, notes, 0, token, start, last, begin, end, window, first_head, key_head
        )
        lower = note_row(
            q, ldq, notes, 1, token, start, last, begin, end, window, first_head, key_head
        )
        return upper, lower

    return note_rows
