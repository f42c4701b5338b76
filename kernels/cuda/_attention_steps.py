"""What a warp does with a page in `attention_tile`: scores, weights, and sums of values."""

import numpy as np

from jitllm.kernels.cuda._attention_notes import STEP_BYTES, row_note
from jitllm.kernels.cuda._fragments import SUMS, TILES, as_left, multiply, multiply_pairs, pack
from jitllm.kernels.cuda._layout import has_whole_chunks
from jitllm.kernels.cuda._page_pairs import key_reader, read_key_rows, value_reader
from jitllm.kernels.cuda._scores import ZERO, quick_exp
from jitllm.kernels.gpu.vocabulary import (
    inline,
    lane,
    load_f32x4,
    load_shared_f32x4,
    load_shared_i32x4,
    maximum,
    registers_i32,
    rolled,
    shuffle_xor_f32,
    store_f32x4,
    store_shared_f32x4,
    store_shared_i32x4,
    sync_threads,
    to_i32,
    unroll,
    warp,
)

HIDDEN = np.float32(-np.inf)


@inline
def clear(numbers, n, x):
    """Set n numbers in registers to x."""
    for i in unroll(n):
        numbers[i] = x


@inline
def _of_row(x):
    """Combine the greatest of the four lanes that share a row."""
    x = maximum(x, shuffle_xor_f32(x, 1))
    return maximum(x, shuffle_xor_f32(x, 2))


@inline
def sum_of_row(x):
    """Return the sum of what the four lanes that share a row have."""
    x += shuffle_xor_f32(x, 1)
    return x + shuffle_xor_f32(x, 2)


def scores_of(kind, dk, staged, alone, sharers):
    """Make stage(upper, lower, room, factor) and scores(queries..., keys, step, ..., sums).

    The first puts what a lane has of the queries, times `factor`, to its place in shared memory;
    the second multiplies them with the 64 keys of a page. If queries are not `staged`, there is
    no first, and the second reads them from where they are. Of `sharers` warps with the same
    queries each puts a part of them there, and they wait for each other.
    """
    read, begin, columns = key_reader(kind)
    product = multiply_pairs if alone else multiply

    @inline
    def words(upper, lower, d, factor):
        a, b = load_f32x4(upper + 4 * d), load_f32x4(lower + 4 * d)
        return (
            pack(a[0] * factor, a[1] * factor), pack(b[0] * factor, b[1] * factor),
            pack(a[2] * factor, a[3] * factor), pack(b[2] * factor, b[3] * factor),
        )  # fmt: skip

    @inline
    def stage(upper, lower, room, factor):
        if staged:
            for d in range(16 * (warp() & (sharers - 1)), dk, 16 * sharers):
                store_shared_i32x4(room + 32 * d, words(upper, lower, d, factor))
        if sharers > 1:
            sync_threads()

    @inline
    def scores(upper, lower, room, factor, keys, step, first, last, sums):
        c, r, first, last = lane() >> 2, lane() & 3, to_i32(first), to_i32(last)
        rows, scales = registers_i32(16), registers_i32(8)
        for block in rolled(dk // columns):
            d = columns * block
            begin(keys, d, c, scales)
            for part in unroll(columns // 16):
                if alone:
                    read_key_rows(keys, step, d, c, r, first, last, rows)
                else:
                    read(keys, d, part, c, r, scales, rows)
                if staged:
                    left = load_shared_i32x4(room + 32 * (d + 16 * part))
                else:
                    left = words(upper, lower, d + 16 * part, factor)
                product(left, rows, sums, 0)

    return stage, scores


def weigher(kind, dv, chunks):
    """Make f(values, step, weights, place, first, last, column, sums): weights times values.

    They pass through the lane's `place` in shared memory, so that registers are not all theirs.
    """
    read = value_reader(kind, dv)
    together = chunks if kind == "f16" or chunks <= 2 else 1  # whose loads may be under way at once

    @inline
    def weigh(values, step, weights, place, first, last, column, sums):
        c, r, rows = lane() >> 2, lane() & 3, registers_i32(16)
        for t in unroll(4):
            store_shared_i32x4(place + STEP_BYTES * t, as_left(weights, t))
        values += 16 * step * r
        first, last = to_i32(first - 16 * r), to_i32(last - 16 * r)
        for start in unroll(chunks // together):
            for t in rolled(4):
                a = load_shared_i32x4(place + STEP_BYTES * t)
                for i in unroll(together):
                    chunk = together * start + i
                    read(values, step, 4 * t, first, last, column + 64 * chunk + 8 * c, rows)
                    multiply(a, rows, sums, SUMS * chunk)

    return weigh


def softmax_of(n_sums):
    """Make f(scores, sums, own): turn the scores of a lane's two rows to weights.

    At `own` are the greatest scores of both rows, and the lane's sums of weights.
    """

    @inline
    def row(scores, sums, half, top, total):
        before = top
        for i in unroll(SUMS // 4):
            pair = maximum(scores[4 * i + 2 * half], scores[4 * i + 2 * half + 1])
            top = maximum(top, pair)
        top = _of_row(top)
        kept, more = quick_exp(before - top), ZERO
        for i in unroll(SUMS // 4):
            for e in unroll(2):
                weight = quick_exp(scores[4 * i + 2 * half + e] - top)
                scores[4 * i + 2 * half + e] = weight
                more += weight
        for i in unroll(n_sums // 4):
            for e in unroll(2):
                sums[4 * i + 2 * half + e] = sums[4 * i + 2 * half + e] * kept
        return top, total * kept + more

    @inline
    def softmax(scores, sums, own):
        state = load_shared_f32x4(own)
        upper, upper_total = row(scores, sums, 0, state[0], state[2])
        lower, lower_total = row(scores, sums, 1, state[1], state[3])
        store_shared_f32x4(own, (upper, lower, upper_total, lower_total))

    return softmax


def shaper(adjust):
    """Make f(scores, at, notes, cap, terms, partly).

    It adjusts the scores of a lane's two rows, for a page whose keys begin at position `at`; with
    `partly`, some keys may not be seen.
    """

    @inline
    def shape_row(scores, half, at, notes, cap, terms, partly):
        position, first, end, head = load_shared_i32x4(row_note(notes, half))
        first, end, ahead = to_i32(first - at), to_i32(end - at), to_i32(at - position)
        head = max(head, 0)
        for j in unroll(TILES):
            for e in unroll(2):
                i, key = 4 * j + 2 * half + e, j + 8 * e
                score = adjust(scores[i], cap, terms, head, ahead + key)
                if partly and (to_i32(key) < first or to_i32(key) >= end):
                    score = HIDDEN
                scores[i] = score

    @inline
    def shape(scores, at, notes, cap, terms, partly):
        at += 16 * (lane() & 3)
        shape_row(scores, 0, at, notes, cap, terms, partly)
        shape_row(scores, 1, at, notes, cap, terms, partly)

    return shape


def sum_writer(dv, chunks):
    """Make f(at, sums, half, factor, r, column): write one of a lane's two rows of sums."""

    is_whole = has_whole_chunks(dv)

    @inline
    def store(at, sums, half, factor, r, column):
        for chunk in unroll(chunks):
            for e in unroll(2):
                i, first = SUMS * chunk + 2 * half + e, column + 64 * chunk + 16 * r + 8 * e
                if is_whole or first < dv:
                    a = (sums[i] * factor, sums[i + 4] * factor, sums[i + 8] * factor,
                         sums[i + 12] * factor)  # fmt: skip
                    b = (sums[i + 16] * factor, sums[i + 20] * factor, sums[i + 24] * factor,
                         sums[i + 28] * factor)  # fmt: skip
                    store_f32x4(at + 4 * first, a)
                    store_f32x4(at + 4 * first + 16, b)

    return store
