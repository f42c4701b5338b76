"""A mean of several values, weighted by the softmax of their scores: one value after the other."""

import numpy as np

from jitllm.kernels.cuda._grid import column
from jitllm.kernels.gpu.vocabulary import A, U, exp, group_y, load_f32, load_u32, maximum, store_f32

THREADS = 64
ONE = np.float32(1)


def softmax_mix(is_first, is_last):
    """Make the step that adds x, of which each row has one score, to y.

    `before` and `after` are two numbers for each row, ldm apart: the highest score so far and the
    sum of the weights relative to it. y gets divided by that sum in the last step.
    """

    def kernel(
        rows: A, x: A, score: A, before: A, after: A, y: A,
        ldx: U, lds: U, ldm: U, ldy: U, width: U,
    ):  # fmt: skip
        i, row = column(), group_y()
        if row >= load_u32(rows) or i >= width:
            return
        top, total = load_f32(score + 4 * row * lds), ONE
        value, target = load_f32(x + 4 * (row * ldx + i)), y + 4 * (row * ldy + i)
        if not is_first:
            own, old = top, load_f32(before + 4 * row * ldm)
            top = maximum(own, old)
            kept, added = exp(old - top), exp(own - top)
            total = load_f32(before + 4 * row * ldm + 4) * kept + added
            value = load_f32(target) * kept + value * added
        store_f32(target, value / total if is_last else value)
        if i == 0:
            store_f32(after + 4 * row * ldm, top)
            store_f32(after + 4 * row * ldm + 4, total)

    return kernel
