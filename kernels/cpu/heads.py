"""Copies between values that hold several heads side by side: memory speed."""

from jitllm.kernels.cpu.rows import next_rows, row_count
from jitllm.kernels.cpu.vmath import load_part, store_part
from jitllm.kernels.simd import load_i64


def copy_heads(args, thread, n_threads, counter):
    """y[t, h, 0:n] = x[t, h, 0:n]; heads lie `x_step` and `y_step` bytes apart.

    A step of 0 gives every head of y the same columns of x.
    """
    n_rows = row_count(args)
    x, ldx, x_step = load_i64(args + 16), load_i64(args + 24), load_i64(args + 32)
    y, ldy, y_step = load_i64(args + 40), load_i64(args + 48), load_i64(args + 56)
    n_heads, n = load_i64(args + 64), load_i64(args + 72)
    row, end = next_rows(counter, n_rows, n_heads * n)
    while row < end:
        for r in range(row, end):
            for h in range(n_heads):
                source, target = x + r * ldx + h * x_step, y + r * ldy + h * y_step
                for i in range(0, n, 16):
                    store_part(target + 4 * i, load_part(source + 4 * i, n - i), n - i)
        row, end = next_rows(counter, n_rows, n_heads * n)
