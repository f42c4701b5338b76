"""Rows of a packed table, chosen by number: the embedding of tokens."""

from jitllm.kernels import formats, packed
from jitllm.kernels.cuda._codes import ROWS, number_reader, quad_reader
from jitllm.kernels.gpu import (
    A,
    U,
    divide_u32,
    group_of_row,
    group_y,
    inline,
    load_u32,
    store_f32,
    store_f32x4,
    thread,
)

THREADS = 64
SPAN = 32 * THREADS  # columns of a workgroup


def _copier(fmt):
    """Make copy(block, lane, y, start, stop): columns of one of the 16 rows at `block`."""
    if formats.get(fmt).scales == "float":
        read_one = number_reader(fmt)

        @inline
        def copy_numbers(block, lane, y, start, stop):
            for i in range(start + thread(), stop, THREADS):
                store_f32(y + 4 * i, read_one(block, i, lane))

        return copy_numbers
    read = quad_reader(fmt)

    @inline
    def copy_quads(block, lane, y, start, stop):
        for i in range(start + 4 * thread(), stop, 4 * THREADS):
            store_f32x4(y + 4 * i, read(block, i, lane))

    return copy_quads


def embed(*, fmt):
    """Make the copy of rows of a table of a format to float32.

    The table is packed (`kernels.packed`), so that it can be the output matrix too; `row_bytes`,
    of a row in the file, are not read. Rows of y lie at multiples of 16 bytes.
    """
    copy = _copier(fmt)
    unit_weights, unit_bytes = packed.unit_weights(formats.get(fmt)), packed.unit_bytes(fmt)

    def kernel(rows: A, ids: A, w: A, y: A, ldy: U, width: U, row_bytes: U):
        row, start = group_y(), group_of_row() * SPAN
        if row >= load_u32(rows):
            return
        number = load_u32(ids + 4 * row)
        block = w + (number >> 4) * (divide_u32(width, unit_weights) * unit_bytes)
        copy(block, number & (ROWS - 1), y + 4 * row * ldy, start, min(start + SPAN, width))

    return kernel
