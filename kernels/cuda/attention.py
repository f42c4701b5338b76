"""Attention of any form, a query head a workgroup: 64 keys at a time, a thread for each."""

from jitllm.kernels.cache_types import row_bytes
from jitllm.kernels.cuda._hadamard import key_rotation, value_rotation
from jitllm.kernels.cuda._numbers import item_bytes, kind_of, number
from jitllm.kernels.cuda._reduce import group_max, group_sum
from jitllm.kernels.cuda._run import PAGE, page_of, segment_of
from jitllm.kernels.cuda._scores import LOWEST, ONE, ZERO, adjusted, bounds
from jitllm.kernels.cuda._segments import CROSS, POSITION, ROW, ROWS, segment_word
from jitllm.kernels.gpu.vocabulary import (
    A,
    F,
    U,
    exp,
    fma,
    group_of_row,
    group_y,
    inline,
    load_f32,
    load_shared_f32,
    load_u32,
    maximum,
    shared,
    store_f32,
    store_shared_f32,
    sync_threads,
    thread,
)

THREADS = 64


def _readers(keys, values, dk, dv, alone):
    """Make score(query, at) and weigh(weights, at, i, first, until) over the cells of a block.

    `at` is, for a score, the key's first item; for values, item i of the block's first cell. The
    bytes from one cell to the next are the caller's `step`.
    """
    key, value = number(keys, 1 if alone else PAGE), number(values, 1)

    @inline
    def score(query, at):
        total = ZERO
        for i in range(dk):
            total = fma(load_shared_f32(query + 4 * i), key(at, i), total)
        return total

    @inline
    def weigh(weights, at, i, step, first, until):
        total = ZERO
        for j in range(first, until):
            total = fma(load_shared_f32(weights + 4 * j), value(at + step * j, i), total)
        return total

    return score, weigh


def attention(keys, values, dk, dv, causal, chunked, cross, alone, sinks, slopes, reach):
    """Make y = softmax(cap(q k^T * scale) + what distances add) v for every row and head.

    Constants and arguments are those of vulkan/attention.comp, whose `keys` and `values` here are
    places in `cache_types.NAMES`. The grid is (heads, rows). Per row and head all keys and values
    that it sees are read; per key dk + dv fma. With quantized types queries are rotated as keys
    are, and what was summed is rotated back.
    """
    keys, values = ("f32", "f32") if alone else (kind_of(keys), kind_of(values))
    seen, adjust = bounds(causal, chunked, cross, alone), adjusted(True, slopes, reach)
    score_of, weigh = _readers(keys, values, dk, dv, alone)
    rotate, rotate_back = key_rotation(keys, dk, THREADS), value_rotation(values, dv, THREADS)
    greatest, total_of = group_max(THREADS), group_sum(THREADS)
    key_step, value_step = item_bytes(keys), row_bytes(values, dv)
    query_bytes, sum_bytes, weight_bytes = 4 * dk, 4 * dv, 4 * PAGE

    def kernel(
        run: A, q: A, y: A, pages: A, v: A, sink: A, terms: A, ldq: U, ldy: U, heads_per_key: U,
        head_bytes: U, key_bytes: U, page_bytes: U, caches: U, window: U, scale: F, cap: F,
        ldk: U, ldv: U,
    ):  # fmt: skip
        row, head, at = group_y(), group_of_row(), thread()
        if row >= load_u32(run):
            return
        query, sums, weights = shared(query_bytes), shared(sum_bytes), shared(weight_bytes)
        group, segment = head // heads_per_key, segment_of(run, row)
        first_row = segment_word(run, segment, ROW)
        start = segment_word(run, segment, POSITION)
        end = start + segment_word(run, segment, ROWS)
        if cross:
            end = segment_word(run, segment, CROSS)
        position = start + row - first_row
        first, end = seen(position, start, end, window)
        for i in range(at, dk, THREADS):
            store_shared_f32(query + 4 * i, load_f32(q + 4 * (row * ldq + head * dk + i)))
        for i in range(at, dv, THREADS):
            store_shared_f32(sums + 4 * i, ZERO)
        sync_threads()
        rotate(query)
        top, total = LOWEST, ZERO
        if sinks:
            top, total = load_f32(sink + 4 * head), ONE
        for block in range(first // PAGE, (end + PAGE - 1) // PAGE):
            key = PAGE * block + at
            if alone:
                own = first_row + PAGE * block - start
                cells = pages + 4 * (own * ldk + group * dk)
                rows, key_apart, apart = v + 4 * (own * ldv + group * dv), 4 * ldk, 4 * ldv
            else:
                cells = page_of(
                    run, segment, caches & 0xFFFF, caches >> 16, block, pages, page_bytes
                )
                cells += group * head_bytes
                rows, key_apart, apart = cells + key_bytes, key_step, value_step
            score = LOWEST
            is_seen = first <= key and key < end
            if is_seen:
                score = scale * score_of(query, cells + key_apart * at)
                score = adjust(score, cap, terms, head, key - position)
            before = top
            top = maximum(top, greatest(score))
            kept, weight = exp(before - top), ZERO
            if is_seen:
                weight = exp(score - top)
            store_shared_f32(weights + 4 * at, weight)
            total = fma(total, kept, total_of(weight))
            low, high = max(first - PAGE * block, 0), min(end - PAGE * block, PAGE)
            for i in range(at, dv, THREADS):
                part = weigh(weights, rows, i, apart, low, high)
                store_shared_f32(sums + 4 * i, fma(load_shared_f32(sums + 4 * i), kept, part))
            sync_threads()
        rotate_back(sums)
        factor = ZERO
        if total > ZERO:
            factor = ONE / total
        for i in range(at, dv, THREADS):
            out = y + 4 * (row * ldy + head * dv + i)
            store_f32(out, load_shared_f32(sums + 4 * i) * factor)

    return kernel
