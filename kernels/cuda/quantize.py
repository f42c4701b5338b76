"""Rounds activations to int8: the form is that of `_rounding`."""

from jitllm.kernels.cuda._rounding import ZERO, store_rounded
from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    group_of_row,
    group_y,
    inline,
    load_f32,
    load_f32x4,
    load_u32,
    thread,
)

THREADS = 64


@inline
def _load(x, at, width):
    """Return four columns, zero behind the row."""
    if at >= width:
        return ZERO, ZERO, ZERO, ZERO
    x += 4 * at
    if x & 15 == 0:
        return load_f32x4(x)
    return load_f32(x), load_f32(x + 4), load_f32(x + 8), load_f32(x + 12)


def quantize():
    """Make the kernel for rows of `width` columns, a multiple of 32; a thread has four.

    Grid: (ceil(width / 256), rows). `q` gets `width` / 32 * 40 bytes for each of the rows.
    """

    def kernel(rows: A, x: A, q: A, ldx: U, width: U):
        row, count, at = group_y(), load_u32(rows), 4 * (group_of_row() * THREADS + thread())
        if row >= count:
            return
        a, b, c, d = _load(x + 4 * row * ldx, at, width)
        store_rounded(a, b, c, d, q, row, count, at, width)

    return kernel
