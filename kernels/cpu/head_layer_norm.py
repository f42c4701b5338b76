"""Layer norm of every head of a row; sums as in `norm`."""

from jitllm.kernels.cpu.norm import centre, inverse_root, row_sum, sum_squares
from jitllm.kernels.cpu.rows import next_rows, row_count
from jitllm.kernels.cpu.vmath import as_f32
from jitllm.kernels.simd import load_f32, load_i64, splat_f32


def head_layer_norm(args, thread, n_threads, counter):
    """y = (x - mean) / sqrt(var + eps) by groups; words: rows x ldx y ldy width group eps."""
    n_rows = row_count(args)
    x, ldx, y, ldy = (load_i64(args + 16), load_i64(args + 24), load_i64(args + 32),
                      load_i64(args + 40))  # fmt: skip
    width, group, eps = load_i64(args + 48), load_i64(args + 56), load_f32(args + 64)
    row, end = next_rows(counter, n_rows, width)
    while row < end:
        for r in range(row, end):
            for start in range(0, 4 * width, 4 * group):
                source = x + r * ldx + start
                mean = splat_f32(row_sum(source, group)) / splat_f32(as_f32(group))
                factor = inverse_root(sum_squares(source, group, mean), group, eps)
                centre(source, 0, 0, y + r * ldy + start, group, mean, factor)
        row, end = next_rows(counter, n_rows, width)
