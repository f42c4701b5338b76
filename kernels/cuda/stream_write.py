"""What goes back to residual streams."""

import numpy as np

from jitllm.kernels.cuda._grid import column
from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    divide_u32,
    fma,
    group_y,
    load_f32,
    load_u32,
    store_f32,
    unroll,
)

THREADS = 64
ZERO = np.float32(0)


def stream_write(n_streams, mixes):
    """Make stream s of y = gates[S + s] * x + stream s or, if it `mixes`, a mix of all streams."""

    def kernel(
        rows: A, x: A, streams: A, gates: A, y: A, ldx: U, lds: U, ldg: U, ldy: U, width: U
    ):  # fmt: skip
        i, row = column(), group_y()
        if row >= load_u32(rows) or i >= n_streams * width:
            return
        target = divide_u32(i, width)
        at, own, weights = i - target * width, streams + 4 * row * lds, gates + 4 * row * ldg
        if mixes:
            kept = ZERO
            for s in unroll(n_streams):
                weight = load_f32(weights + 4 * (2 * n_streams + s * n_streams + target))
                kept = fma(load_f32(own + 4 * (s * width + at)), weight, kept)
        else:
            kept = load_f32(own + 4 * i)
        v, weight = load_f32(x + 4 * (row * ldx + at)), load_f32(weights + 4 * (n_streams + target))
        store_f32(y + 4 * (row * ldy + i), fma(v, weight, kept))

    return kernel
