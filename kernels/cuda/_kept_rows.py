"""Rows whose columns stay in the registers of a workgroup: four of a thread at a time.

All loads of a row are on their way at once.
"""

import numpy as np

from jitllm.kernels.cuda._layout import KEPT_COLUMNS
from jitllm.kernels.gpu.vocabulary import inline, thread, unroll

THREADS = 512
SPAN = 4 * THREADS  # columns that the threads have at a time
ROOM = KEPT_COLUMNS
QUADS = ROOM // SPAN
KEPT = 4 * QUADS
ZERO = np.float32(0)


@inline
def keep(values, j, kept):
    """Put four numbers of span j into registers."""
    for c in unroll(4):
        kept[4 * j + c] = values[c]


@inline
def four(kept, j):
    """Return the four numbers of span j."""
    return kept[4 * j], kept[4 * j + 1], kept[4 * j + 2], kept[4 * j + 3]


@inline
def sum_kept(kept):
    """Return a thread's part of the sum; what is behind the row must be zero."""
    total = ZERO
    for j in unroll(KEPT):
        total += kept[j]
    return total


@inline
def squares(kept, width, mean):
    """Return a thread's part of the sum of (v - mean)^2."""
    total = ZERO
    for j in unroll(QUADS):
        if SPAN * j + 4 * thread() < width:
            for c in unroll(4):
                v = kept[4 * j + c] - mean
                total += v * v
    return total
