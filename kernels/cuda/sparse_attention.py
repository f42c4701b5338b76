"""Attention to chosen positions, a query head a workgroup: 64 keys at a time."""

import numpy as np

from jitllm.kernels.cache_types import is_quantized, row_bytes
from jitllm.kernels.cuda._hadamard import key_rotation, value_rotation
from jitllm.kernels.cuda._numbers import item_bytes, kind_of, number
from jitllm.kernels.cuda._reduce import group_max, group_sum
from jitllm.kernels.cuda._run import PAGE, n_rows, page_at, position_of, segment_of, table_of
from jitllm.kernels.cuda._scores import LOWEST, ONE, ZERO
from jitllm.kernels.gpu.vocabulary import (
    A,
    F,
    U,
    divide_u32,
    exp,
    fma,
    group_of_row,
    group_y,
    inline,
    load_f32,
    load_shared_f32,
    load_shared_i32,
    maximum,
    shared,
    store_f32,
    store_shared_f32,
    store_shared_i32,
    sync_threads,
    thread,
    to_f32,
    to_i32,
)

THREADS = 64
NONE = np.float32(-1)


def _readers(keys, values, dk, dv, keys_only):
    """Make score(query, head, cell) and value(head, key_bytes, cell, i) of a position.

    `head` is where a head of the position's page begins, `cell` the place in the page.
    """
    key, key_size = number(keys, PAGE), item_bytes(keys)
    number_of, value_bytes = number(values, 1), row_bytes(values, dv)

    @inline
    def score(query, head, cell):
        total = ZERO
        for i in range(dk):
            total = fma(load_shared_f32(query + 4 * i), key(head + key_size * cell, i), total)
        return total

    @inline
    def value(head, key_bytes, cell, i):
        if keys_only:
            return key(head + key_size * cell, i)
        return number_of(head + key_bytes + value_bytes * cell, i)

    return score, value


def sparse_attention(keys, values, dk, dv, keys_only, is_joint, has_sinks):
    """Make y = softmax(q k^T * scale) v over chosen positions, for every row and head.

    `lists` are float32 [G, 2], first and end column of what key head g reads in `chosen`; if
    `is_joint`, every query head reads all key heads. With `keys_only` values are the first dv
    columns of keys. With quantized types, of their places in `cache_types.NAMES`, queries are
    rotated as keys are, and what was summed is rotated back.
    """
    keys, values = kind_of(keys), "f32" if keys_only else kind_of(values)
    score_of, value_of = _readers(keys, values, dk, dv, keys_only)
    rotate, rotate_back = key_rotation(keys, dk, THREADS), value_rotation(values, dv, THREADS)
    n_sums = dv
    if keys_only and is_quantized(keys):  # what is rotated back is whole keys
        n_sums, rotate_back = dk, rotate
    greatest, total_of = group_max(THREADS), group_sum(THREADS)
    query_bytes, sum_bytes, weight_bytes = 4 * dk, 4 * n_sums, 4 * THREADS

    def kernel(
        run: A, q: A, chosen: A, y: A, pages: A, lists: A, sinks: A,
        ldq: U, ldc: U, ldy: U, n_kv_heads: U, heads_per_key: U, head_bytes: U, key_bytes: U,
        page_bytes: U, cache: U, n_caches: U, scale: F,
    ):  # fmt: skip
        row, head, at = group_y(), group_of_row(), thread()
        if row >= n_rows(run):
            return
        query, sums, weights = shared(query_bytes), shared(sum_bytes), shared(weight_bytes)
        places, segment = shared(weight_bytes), segment_of(run, row)
        position = position_of(run, segment, row)
        numbers, length = table_of(run, segment, n_caches, cache)
        for i in range(at, dk, THREADS):
            store_shared_f32(query + 4 * i, load_f32(q + 4 * (row * ldq + head * dk + i)))
        for i in range(at, n_sums, THREADS):
            store_shared_f32(sums + 4 * i, ZERO)
        sync_threads()
        rotate(query)
        top, total = LOWEST, ZERO
        if has_sinks:
            top, total = load_f32(sinks + 4 * head), ONE
        first_key = 0 if is_joint else divide_u32(head, heads_per_key)
        for group in range(first_key, n_kv_heads if is_joint else first_key + 1):
            start, stop = load_f32(lists + 8 * group), load_f32(lists + 8 * group + 4)
            for column in range(to_i32(start), to_i32(stop), THREADS):
                number = NONE
                if column + at < to_i32(stop):
                    number = load_f32(chosen + 4 * (row * ldc + column + at))
                is_seen, score = ZERO <= number and number <= to_f32(position), LOWEST
                place = -1  # page and cell
                if is_seen:
                    s = to_i32(number) + 0
                    page, cell = page_at(numbers, length, s >> 6), s & (PAGE - 1)
                    place, own = PAGE * page + cell, pages + page * page_bytes
                    score = scale * score_of(query, own + group * head_bytes, cell)
                before = top
                top = maximum(top, greatest(score))
                kept, weight = exp(before - top), exp(score - top) if is_seen else ZERO
                total = fma(total, kept, total_of(weight))
                store_shared_f32(weights + 4 * at, weight)
                store_shared_i32(places + 4 * at, to_i32(place))
                sync_threads()
                for i in range(at, n_sums, THREADS):
                    part = ZERO
                    for j in range(THREADS):
                        other = load_shared_i32(places + 4 * j) + 0
                        if other >= 0:
                            own = pages + (other >> 6) * page_bytes + group * head_bytes
                            v = value_of(own, key_bytes, other & (PAGE - 1), i)
                            part = fma(load_shared_f32(weights + 4 * j), v, part)
                    before_sum = load_shared_f32(sums + 4 * i)
                    store_shared_f32(sums + 4 * i, fma(before_sum, kept, part))
                sync_threads()
        rotate_back(sums)
        factor = ONE / total if total > ZERO else ZERO
        for i in range(at, dv, THREADS):
            out = y + 4 * (row * ldy + head * dv + i)
            store_f32(out, load_shared_f32(sums + 4 * i) * factor)

    kernel.groups = 8  # with registers for more, some types lack a few
    return kernel
