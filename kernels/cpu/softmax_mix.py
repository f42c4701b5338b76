"""Means of several rows, weighted by the softmax of their scores.

Rows are added in the order of the values: bits depend on one row's inputs alone. Per number: 4
bytes read and one fma for each value, and 4 bytes written.
"""

import numpy as np

from jitllm.kernels.cpu import vmath
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.rows import next_rows, row_count
from jitllm.kernels.cpu.vmath import ONE, ZERO, load_part, store_part
from jitllm.kernels.simd import fma, load_f32, load_i64, splat_f32

LOWEST = np.float32(-3.4028235e38)
FIRST = 48  # where the words of the values begin: 4 for each
EACH = 32


@inline
def _score(args, c, row):
    at = args + FIRST + EACH * c
    return load_f32(load_i64(at + 16) + row * load_i64(at + 24))


@inline
def _weight(args, c, row, top):
    """Return e^(score - top) in every lane."""
    return vmath.exp(splat_f32(_score(args, c, row)) - splat_f32(top))


@inline
def _mix(args, n, row, y, width):
    top = LOWEST
    for c in range(n):
        top = max(top, _score(args, c, row))
    total = splat_f32(ZERO)
    for c in range(n):
        total = total + _weight(args, c, row, top)
    for i in range(0, width, 16):
        store_part(y + 4 * i, splat_f32(ZERO), width - i)
    for c in range(n):
        at = args + FIRST + EACH * c
        x = load_i64(at) + row * load_i64(at + 8)
        factor = _weight(args, c, row, top) * (splat_f32(ONE) / total)
        for i in range(0, width, 16):
            left = width - i
            value = fma(load_part(x + 4 * i, left), factor, load_part(y + 4 * i, left))
            store_part(y + 4 * i, value, left)


def softmax_mix(args, thread, n_threads, counter):
    """y = sum of softmax(scores)[c] * x_c, row by row (`cpu_ops.softmax_mix`)."""
    n_rows = row_count(args)
    y, ldy, width, n = (load_i64(args + 16), load_i64(args + 24), load_i64(args + 32),
                        load_i64(args + 40))  # fmt: skip
    row, end = next_rows(counter, n_rows, n * width)
    while row < end:
        for r in range(row, end):
            _mix(args, n, r, y + r * ldy, width)
        row, end = next_rows(counter, n_rows, n * width)
