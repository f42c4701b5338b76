"""Compressed keys: a softmax over positions in every column, a thread for each column."""

import numpy as np

from jitllm.kernels.cuda._grid import column
from jitllm.kernels.cuda._numbers import item_bytes, kind_of, number
from jitllm.kernels.cuda._run import PAGE, n_rows, page_at, position_of, segment_of, table_of
from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    exp,
    fma,
    group_y,
    load_f32,
    maximum,
    remainder_u32,
    store_f32,
)

THREADS = 64
LOWEST, ZERO = np.float32(-3.4028235e38), np.float32(0)


def compress(keys, values, ratio, overlaps):
    """Make the compressed keys that end at rows; see `reference_compress`.

    The cache has one head of `width` columns: keys are what is summed, values the scores. Its types
    are of numbers, by their places in `cache_types.NAMES`.
    """
    key, score = number(kind_of(keys), PAGE), number(kind_of(values), 1)
    key_size, score_size = item_bytes(kind_of(keys)), item_bytes(kind_of(values))

    def kernel(
        run: A, pages: A, ape: A, y: A,
        ldy: U, width: U, n: U, key_bytes: U, page_bytes: U, cache: U, n_caches: U,
    ):  # fmt: skip
        i, row = column(), group_y()
        if row >= n_rows(run) or i >= n:
            return
        segment = segment_of(run, row)
        end = position_of(run, segment, row) + 1
        if remainder_u32(end, ratio) != 0:
            store_f32(y + 4 * (row * ldy + i), ZERO)
            return
        first = max(0, end - 2 * ratio) if overlaps else end - ratio
        numbers, length = table_of(run, segment, n_caches, cache)
        top, total, value = LOWEST, ZERO, ZERO
        for s in range(first, end):
            page = pages + page_at(numbers, length, s >> 6) * page_bytes
            cell, at = s & (PAGE - 1), i
            if overlaps and s >= end - ratio:
                at = n + i
            logit = score(page + key_bytes + score_size * width * cell, at)
            logit += load_f32(ape + 4 * (remainder_u32(s, ratio) * width + at))
            before = top
            top = maximum(top, logit)
            kept, weight = exp(before - top), exp(logit - top)
            total = fma(total, kept, weight)
            value = fma(value, kept, weight * key(page + key_size * cell, at))
        store_f32(y + 4 * (row * ldy + i), value / total)

    return kernel
