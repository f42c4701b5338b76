"""Scores of positions for sparse attention, by the lightning indexer."""

import numpy as np

from jitllm.kernels.cuda._numbers import item_bytes, kind_of, number
from jitllm.kernels.cuda._run import PAGE, n_rows, page_of, position_of, segment_of
from jitllm.kernels.gpu.vocabulary import (
    A,
    F,
    U,
    divide_u32,
    fma,
    group_of_row,
    group_y,
    load_f32,
    maximum,
    remainder_u32,
    store_f32,
    thread,
)

THREADS = 64
ZERO = np.float32(0)


def index_scores(keys, dk, n_heads, is_weighed, stride):
    """Make y[t, i] = sum over heads of w * scale * max(0, q . k) of position (i + 1) * stride - 1.

    A workgroup is for 64 positions. Rows that see no more than `top_k` of them need no scores, and
    get none. Keys are of one head; those of quantized types are rotated, and queries too. w are
    ones unless `is_weighed`.
    """
    key, size = number(kind_of(keys), PAGE), item_bytes(kind_of(keys))

    def kernel(
        run: A, q: A, w: A, pages: A, y: A,
        ldq: U, ldw: U, ldy: U, top_k: U, page_bytes: U, cache: U, n_caches: U, scale: F,
    ):  # fmt: skip
        row, s = group_y(), THREADS * group_of_row() + thread()
        if row >= n_rows(run):
            return
        segment = segment_of(run, row)
        end = position_of(run, segment, row) + 1
        if s >= end or divide_u32(end, stride) <= top_k or remainder_u32(s + 1, stride) != 0:
            return
        page = page_of(run, segment, n_caches, cache, s >> 6, pages, page_bytes)
        at, query, total = page + size * (s & (PAGE - 1)), q + 4 * row * ldq, ZERO
        for h in range(n_heads):
            product = ZERO
            for i in range(dk):
                product = fma(load_f32(query + 4 * (h * dk + i)), key(at, i), product)
            weight = load_f32(w + 4 * (row * ldw + h)) * scale if is_weighed else scale
            total = fma(maximum(product, ZERO), weight, total)
        store_f32(y + 4 * (row * ldy + divide_u32(s, stride)), total)

    return kernel
