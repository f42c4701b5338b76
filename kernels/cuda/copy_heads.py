"""Columns of every head: y[t, h, 0:n] = x[t, h, 0:n]."""

from jitllm.kernels.cuda._grid import column
from jitllm.kernels.gpu.vocabulary import A, U, divide_u32, group_y, load_f32, load_u32, store_f32

THREADS = 64


def copy_heads():
    """Make the copy; heads lie x_step and y_step columns apart."""

    def kernel(
        rows: A, x: A, y: A, ldx: U, ldy: U, x_step: U, y_step: U, n_heads: U, n: U
    ):  # fmt: skip
        i, row = column(), group_y()
        if row >= load_u32(rows) or i >= n_heads * n:
            return
        head = divide_u32(i, n)
        c = i - head * n
        v = load_f32(x + 4 * (row * ldx + head * x_step + c))
        store_f32(y + 4 * (row * ldy + head * y_step + c), v)

    return kernel
