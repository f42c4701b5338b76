"""Compressed keys: a softmax over positions in every column, a thread for each column."""

import numpy as np

from jitllm.kernels.cache_types import rows_of
from jitllm.kernels.cuda._grid import column
from jitllm.kernels.cuda._hadamard import rotation
from jitllm.kernels.cuda._numbers import item_bytes, kind_of, number
from jitllm.kernels.cuda._run import PAGE, n_rows, page_at, position_of, segment_of, table_of
from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    exp,
    fma,
    group_y,
    inline,
    load_f32,
    load_shared_f32,
    maximum,
    minimum,
    remainder_u32,
    shared,
    store_f32,
    store_shared_f32,
    sync_threads,
    thread,
)

THREADS = 64
LOWEST, ZERO = np.float32(-3.4028235e38), np.float32(0)


def _turned(kind, step, size, width):
    """Make f(row, i, room): number i of a row of a type, turned back from a matrix of `size`.

    All threads of a workgroup take part, `room` is shared memory of theirs.
    """
    number_of, rotate = number(kind, step), rotation(size, width, THREADS)

    @inline
    def plain(row, i, room):
        return number_of(row, i)

    @inline
    def turned(row, i, room):
        for j in range(thread(), width, THREADS):
            store_shared_f32(room + 4 * j, number_of(row, j))
        sync_threads()
        rotate(room)
        x = load_shared_f32(room + 4 * i)
        sync_threads()
        return x

    return turned if size else plain


def compress(keys, values, ratio, overlaps, width):
    """Make the compressed keys that end at rows; see `reference_compress`.

    The cache has one head of `width` columns: keys are what is summed, values the scores. Its types
    are known by their places in `cache_types.NAMES`.
    """
    keys, values = rows_of(f"{kind_of(keys)}/{kind_of(values)}", (1, width, width))
    key = _turned(keys.kind, PAGE, keys.hadamard, width)
    score = _turned(values.kind, 1, values.hadamard, width)
    key_size, score_bytes = item_bytes(keys.kind), values.nbytes
    room_bytes = 4 * width if keys.hadamard or values.hadamard else 4

    def kernel(
        run: A, pages: A, ape: A, y: A,
        ldy: U, n: U, key_bytes: U, page_bytes: U, cache: U, n_caches: U,
    ):  # fmt: skip
        i, row, room = column(), group_y(), shared(room_bytes)
        if row >= n_rows(run):
            return
        own, segment = minimum(i, n - 1), segment_of(run, row)
        end = position_of(run, segment, row) + 1
        if remainder_u32(end, ratio) != 0:
            if i < n:
                store_f32(y + 4 * (row * ldy + i), ZERO)
            return
        first = max(0, end - 2 * ratio) if overlaps else end - ratio
        numbers, length = table_of(run, segment, n_caches, cache)
        top, total, value = LOWEST, ZERO, ZERO
        for s in range(first, end):
            page = pages + page_at(numbers, length, s >> 6) * page_bytes
            cell, at = s & (PAGE - 1), own
            if overlaps and s >= end - ratio:
                at = n + own
            logit = score(page + key_bytes + score_bytes * cell, at, room)
            logit += load_f32(ape + 4 * (remainder_u32(s, ratio) * width + at))
            before = top
            top = maximum(top, logit)
            kept, weight = exp(before - top), exp(logit - top)
            total = fma(total, kept, weight)
            value = fma(value, kept, weight * key(page + key_size * cell, at, room))
        if i < n:
            store_f32(y + 4 * (row * ldy + i), value / total)

    return kernel
