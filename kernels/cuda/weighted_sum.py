"""y[r] = sum over j of weights[r, j] * x[r * k + j], in ascending order."""

import numpy as np

from jitllm.kernels.cuda._grid import column
from jitllm.kernels.gpu.vocabulary import A, U, group_y, load_f32, load_u32, store_f32

THREADS = 64
ZERO = np.float32(0)


def weighted_sum(is_weighed):
    """Make the sum of k rows for each row; without `is_weighed` weights are ones."""

    def kernel(rows: A, x: A, weights: A, y: A, ldx: U, ldy: U, width: U, k: U):
        i, row = column(), group_y()
        if row >= load_u32(rows) or i >= width:
            return
        total = ZERO
        for j in range(row * k, row * k + k):
            v = load_f32(x + 4 * (j * ldx + i))
            if is_weighed:
                v = v * load_f32(weights + 4 * j)
            total += v
        store_f32(y + 4 * (row * ldy + i), total)

    return kernel
