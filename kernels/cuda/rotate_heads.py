"""Rows of heads times Hadamard matrices, as caches of quantized types have theirs."""

from jitllm.kernels.cuda._hadamard import rotation
from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    group_of_row,
    group_y,
    load_f32,
    load_shared_f32,
    load_u32,
    shared,
    store_f32,
    store_shared_f32,
    sync_threads,
    thread,
)

THREADS = 64


def rotate_heads(width, size):
    """Make y = x times the matrix of `size` columns, its own inverse, for each `size` of a head.

    A head is `width` numbers, a multiple of `size`; the grid is (heads, rows). y may be x.
    """
    rotate, row_bytes = rotation(size, width, THREADS), 4 * width

    def kernel(rows: A, x: A, y: A, ldx: U, ldy: U):
        row, head, own = group_y(), group_of_row(), shared(row_bytes)
        if row >= load_u32(rows):
            return
        for i in range(thread(), width, THREADS):
            store_shared_f32(own + 4 * i, load_f32(x + 4 * (row * ldx + head * width + i)))
        sync_threads()
        rotate(own)
        for i in range(thread(), width, THREADS):
            store_f32(y + 4 * (row * ldy + head * width + i), load_shared_f32(own + 4 * i))

    return kernel
