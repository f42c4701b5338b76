"""Alternating updates: streams that are added with weights of their own, or made equally large.

Sources are added in their order and sums run as in `norm`: bits depend on one row alone. Per number
and source of a sum 8 bytes are read, one fma done, 4 bytes written, all but the source in the
first-level cache.
"""

from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.norm import centre, sum_squares
from jitllm.kernels.cpu.rows import next_rows, row_count
from jitllm.kernels.cpu.vmath import ZERO, as_f32, load_part, store_part
from jitllm.kernels.simd import fma, load_f32, load_i64, splat_f32, sqrt, vmax

FIRST = 96  # where the words of the sources begin: 2 for each
EACH = 16


@inline
def _add(x, source, factor, y, width):
    for i in range(0, width, 16):
        left = width - i
        value = fma(load_part(source + 4 * i, left), factor, load_part(x + 4 * i, left))
        store_part(y + 4 * i, value, left)


def weighted_add(args, thread, n_threads, counter):
    """y = x + sum of (gates[start + j] + shift) * source_j (`cpu_ops.weighted_add`)."""
    n_rows = row_count(args)
    x, ldx, gates, ldg = (load_i64(args + 16), load_i64(args + 24), load_i64(args + 32),
                          load_i64(args + 40))  # fmt: skip
    start, shift, y, ldy = (load_i64(args + 48), load_f32(args + 56), load_i64(args + 64),
                            load_i64(args + 72))  # fmt: skip
    width, n = load_i64(args + 80), load_i64(args + 88)
    row, end = next_rows(counter, n_rows, n * width)
    while row < end:
        for r in range(row, end):
            so_far = x + r * ldx
            for c in range(n):
                at = args + FIRST + EACH * c
                source = load_i64(at) + r * load_i64(at + 8)
                gate = load_f32(gates + r * ldg + 4 * (start + c)) + shift
                _add(so_far, source, splat_f32(gate), y + r * ldy, width)
                so_far = y + r * ldy
        row, end = next_rows(counter, n_rows, n * width)


@inline
def _mean_square(x, width):
    total = sum_squares(x, width, splat_f32(ZERO))
    return splat_f32(total) / splat_f32(as_f32(width))


def match_rms(args, thread, n_threads, counter):
    """y = x * rms(like) / rms(x) over each `group` columns (`cpu_ops.match_rms`)."""
    n_rows = row_count(args)
    x, ldx, like, ldl = (load_i64(args + 16), load_i64(args + 24), load_i64(args + 32),
                         load_i64(args + 40))  # fmt: skip
    y, ldy = load_i64(args + 48), load_i64(args + 56)
    width, group, floor = load_i64(args + 64), load_i64(args + 72), load_f32(args + 80)
    zero = splat_f32(ZERO)
    row, end = next_rows(counter, n_rows, width)
    while row < end:
        for r in range(row, end):
            target = _mean_square(like + r * ldl, group)
            for start in range(0, 4 * width, 4 * group):
                source = x + r * ldx + start
                own = vmax(splat_f32(floor), _mean_square(source, group))
                centre(source, 0, 0, y + r * ldy + start, group, zero, sqrt(target / own))
        row, end = next_rows(counter, n_rows, width)
