"""Rows that a run wants: y[o] = x[chosen[o]]."""

from jitllm.kernels.cuda._grid import column
from jitllm.kernels.gpu.vocabulary import A, U, group_y, load_f32, load_u32, store_f32

THREADS = 64


def select_rows():
    """Make the copy of the chosen rows."""

    def kernel(rows: A, chosen: A, x: A, y: A, ldx: U, ldy: U, width: U):
        i, row = column(), group_y()
        if row >= load_u32(rows) or i >= width:
            return
        v = load_f32(x + 4 * (load_u32(chosen + 4 * row) * ldx + i))
        store_f32(y + 4 * (row * ldy + i), v)

    return kernel
