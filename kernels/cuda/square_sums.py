"""Sums of squares of the rows that each expert gets, and their numbers."""

import numpy as np

from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    divide_u32,
    fma,
    group_of_row,
    load_f32,
    load_i32,
    load_u32,
    store_f32,
    store_i32,
    thread,
    to_i32,
)

THREADS = 64
ZERO = np.float32(0)


def square_sums(is_weighed):
    """Make sums[e, i] = sum of x[s // fan, i]^2 over slots s of expert e, and counts[e].

    With `is_weighed` rows count times their slot's weight. A workgroup is for 64 columns of an
    expert, of which there are `spans`; it reads all ids.
    """

    def kernel(
        slots: A, ids: A, x: A, weights: A, sums: A, counts: A, ldx: U, width: U, fan: U, spans: U
    ):
        expert = divide_u32(group_of_row(), spans)
        i, n, total = THREADS * (group_of_row() - expert * spans) + thread(), 0, ZERO
        for s in range(load_u32(slots)):
            if load_i32(ids + 4 * s) == expert:
                v = load_f32(x + 4 * (divide_u32(s, fan) * ldx + i)) if i < width else ZERO
                if is_weighed:
                    v = v * load_f32(weights + 4 * s)
                total = fma(v, v, total)
                n += 1
        if i < width:
            store_f32(sums + 4 * (expert * width + i), total)
        if i == 0:
            store_i32(counts + 4 * expert, to_i32(n))

    return kernel
