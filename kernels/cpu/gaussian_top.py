"""The largest values of every row, found by its mean and deviation; sums as in `norm`.

Per number three reads and one write: 16 bytes, all but the first read from the first-level cache.
"""

from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.norm import row_sum, sum_squares
from jitllm.kernels.cpu.rows import next_rows, row_count
from jitllm.kernels.cpu.vmath import ZERO, as_f32, load_part, store_part
from jitllm.kernels.simd import fma, load_f32, load_i64, splat_f32, sqrt, vmax


@inline
def _cut(x, width, deviations):
    mean = splat_f32(row_sum(x, width)) / splat_f32(as_f32(width))
    square = splat_f32(sum_squares(x, width, mean)) / splat_f32(as_f32(width - 1))
    return fma(sqrt(square), splat_f32(deviations), mean)


def gaussian_top(args, thread, n_threads, counter):
    """y = max(x - mean - deviations * std, 0) by rows (`GAUSSIAN_TOP` of `cpu_ops`)."""
    n_rows = row_count(args)
    x, ldx, y, ldy = (load_i64(args + 16), load_i64(args + 24), load_i64(args + 32),
                      load_i64(args + 40))  # fmt: skip
    width, deviations = load_i64(args + 48), load_f32(args + 56)
    row, end = next_rows(counter, n_rows, width)
    while row < end:
        for r in range(row, end):
            cut, zero = _cut(x + r * ldx, width, deviations), splat_f32(ZERO)
            for i in range(0, width, 16):
                above = load_part(x + r * ldx + 4 * i, width - i) - cut
                store_part(y + r * ldy + 4 * i, vmax(zero, above), width - i)
        row, end = next_rows(counter, n_rows, width)
