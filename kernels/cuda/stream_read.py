"""The sum of residual streams by their gates."""

import numpy as np

from jitllm.kernels.cuda._grid import column
from jitllm.kernels.gpu.vocabulary import A, U, fma, group_y, load_f32, load_u32, store_f32, unroll

THREADS = 64
ZERO = np.float32(0)


def stream_read(n_streams):
    """Make y = sum over s of gates[s] * stream s, streams of `width` columns side by side."""

    def kernel(rows: A, x: A, gates: A, y: A, ldx: U, ldg: U, ldy: U, width: U):
        i, row = column(), group_y()
        if row >= load_u32(rows) or i >= width:
            return
        total = ZERO
        for s in unroll(n_streams):
            v = load_f32(x + 4 * (row * ldx + s * width + i))
            total = fma(v, load_f32(gates + 4 * (row * ldg + s)), total)
        store_f32(y + 4 * (row * ldy + i), total)

    return kernel
