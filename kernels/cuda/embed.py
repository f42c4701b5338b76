"""Rows of a packed table, chosen by number: the embedding of tokens."""

from jitllm.kernels.cuda import _table
from jitllm.kernels.gpu.vocabulary import A, U, group_of_row, group_y, load_u32

THREADS = _table.THREADS


def embed(*, fmt):
    """Make the copy of rows of a table of a format to float32.

    The table is packed (`kernels.packed`), so that it can be the output matrix too; `row_bytes`,
    of a row in the file, are not read. Rows of y lie at multiples of 16 bytes.
    """
    copy = _table.row_copier(fmt)

    def kernel(rows: A, ids: A, w: A, y: A, ldy: U, width: U, row_bytes: U):
        row = group_y()
        if row >= load_u32(rows):
            return
        number = load_u32(ids + 4 * row)
        copy(w, number, width, y + 4 * row * ldy, group_of_row() * _table.SPAN)

    return kernel
