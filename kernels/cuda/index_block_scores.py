"""Scores of blocks of positions for sparse attention: a workgroup for a block and a head."""

import numpy as np

from jitllm.kernels.cuda._numbers import item_bytes, kind_of, number
from jitllm.kernels.cuda._reduce import group_max
from jitllm.kernels.cuda._run import PAGE, n_rows, page_of, position_of, segment_of
from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    divide_u32,
    fma,
    group_of_row,
    group_y,
    load_f32,
    maximum,
    store_f32,
    thread,
)

THREADS = 64
ZERO, LOWEST, HIGHEST = np.float32(0), np.float32(-3.4028235e38), np.float32(np.inf)


def index_block_scores(keys, dk, block, local):
    """Make y[t, h, b] = the largest q[t, h] . k[s] of a block, or infinity for the last `local`.

    Rows that see no more than `top_k` blocks get no scores. Keys are of one head; those of
    quantized types are rotated, and queries too.
    """
    key, size, greatest = number(kind_of(keys), PAGE), item_bytes(kind_of(keys)), group_max(THREADS)

    def kernel(
        run: A, q: A, pages: A, y: A,
        ldq: U, ldy: U, n_blocks: U, top_k: U, page_bytes: U, cache: U, n_caches: U,
    ):  # fmt: skip
        row, group = group_y(), group_of_row()
        if row >= n_rows(run):
            return
        head, segment = divide_u32(group, n_blocks), segment_of(run, row)
        own, position = group - head * n_blocks, position_of(run, segment, row)
        last, query, best = divide_u32(position, block), q + 4 * (row * ldq + head * dk), LOWEST
        if own > last or last < top_k:
            return
        for s in range(own * block + thread(), min((own + 1) * block, position + 1), THREADS):
            page = page_of(run, segment, n_caches, cache, s >> 6, pages, page_bytes)
            product, at = ZERO, page + size * (s & (PAGE - 1))
            for i in range(dk):
                product = fma(load_f32(query + 4 * i), key(at, i), product)
            best = maximum(best, product)
        best = greatest(best)
        if thread() == 0:
            store_f32(y + 4 * (row * ldy + group), HIGHEST if own > last - local else best)

    return kernel
