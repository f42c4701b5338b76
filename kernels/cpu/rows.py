"""What row-wise kernels share: how many rows a run has, and how threads take them."""

from jitllm.kernels.atomics import atomic_add
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.simd import (
    load_i64,
)

CHUNK_FLOATS = 8192  # 32 KiB of each operand: a chunk's rows stay in the first-level cache


@inline
def row_count(args):
    """Return the number of rows: word 1 of the block names the run word that holds it."""
    return load_i64(load_i64(args) + 8 * load_i64(args + 8))


@inline
def next_rows(counter, n_rows, width):
    """Take the next chunk of rows; (first, end), first >= end when none is left."""
    size = max(1, CHUNK_FLOATS // max(1, width))
    first = atomic_add(counter, size)
    return first, min(n_rows, first + size)
