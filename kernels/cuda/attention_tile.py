"""Attention of 16 rows a warp by tensor cores, for prompts and for single tokens.

A row is a query head of a token; the 16 of a warp are heads that share a key head, of one token or
of several. Keys and values go from the page to the products without shared memory (`_fragments`);
queries, weights, keys and values are float16 there. Sums are float32, with a running maximum and
sum for each row (Milakov and Gimelshein, 2018; Dao et al., 2022). Where rows are few, each warp
takes a part of the cells, and `attention_merge` puts the parts together in ascending order (Dao et
al., "Flash-Decoding", 2023); how they are cut depends on the cells that the rows see, never on
which warp is first.

Per page of 64 cells and warp: 128 (dk + dv) bytes of float16 are read, 2048 (dk + dv) fma in
products, for 1024 exponentials.
"""

import numpy as np

from jitllm.kernels.cache_types import row_bytes
from jitllm.kernels.cuda._fragments import SUMS, TILES, as_left, multiply, multiply_pairs, pack
from jitllm.kernels.cuda._layout import (
    COLUMNS,
    RECORD,
    ROWS_OF_WARP,
    blocks_of,
    heads_of_tile,
    tokens_of_tile,
)
from jitllm.kernels.cuda._numbers import kind_of
from jitllm.kernels.cuda._page_pairs import key_reader, read_key_rows, value_reader
from jitllm.kernels.cuda._run import PAGE, n_rows, page_at, segment_of, table_of
from jitllm.kernels.cuda._scores import LOWEST, ONE, ZERO, adjusted, bounds, quick_exp
from jitllm.kernels.cuda._segments import CROSS, POSITION, ROW, ROWS, segment_word
from jitllm.kernels.gpu import (
    A,
    F,
    U,
    divide_u32,
    exp,
    group_of_row,
    group_y,
    inline,
    lane,
    load_f32,
    load_f32x4,
    load_shared_i32x4,
    maximum,
    minimum,
    registers_f32,
    registers_i32,
    remainder_u32,
    shared,
    shuffle_xor_f32,
    store_f32,
    store_f32x4,
    store_shared_i32x4,
    sync_threads,
    sync_warp,
    thread,
    to_i32,
    unroll,
    warp,
)

THREADS, WARPS = 128, 4
NOTE_BYTES = 16 * THREADS  # what lanes know of one of their rows: registers are scarce
NOTES_BYTES = 3 * NOTE_BYTES
HIDDEN = np.float32(-np.inf)


@inline
def _of_row(x):
    """Combine the greatest of the four lanes that share a row."""
    x = maximum(x, shuffle_xor_f32(x, 1))
    return maximum(x, shuffle_xor_f32(x, 2))


@inline
def _sum_of_row(x):
    x += shuffle_xor_f32(x, 1)
    return x + shuffle_xor_f32(x, 2)


def _scores(kind, dk, staged, alone):
    """Make stage(upper, lower, room, factor) and scores(queries..., keys, step, c, r, ..., sums).

    The first puts what a lane has of the queries, times `factor`, to its place in shared memory;
    the second multiplies them with the 64 keys of a page. If queries are not `staged`, there is
    no first, and the second reads them from where they are.
    """
    read, is_wide = key_reader(kind), dk > 128
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
            for d in range(0, dk, 16):
                store_shared_i32x4(room + 32 * d, words(upper, lower, d, factor))

    @inline
    def scores(upper, lower, room, factor, keys, step, c, r, first, last, sums):
        rows = registers_i32(16)
        for d in range(0, dk, 16):
            if is_wide:
                sync_warp()  # keeps loads of later steps from being moved here: registers end
            if alone:
                read_key_rows(keys, step, d, c, r, first, last, rows)
            else:
                read(keys, d, c, r, rows)
            if staged:
                left = load_shared_i32x4(room + 32 * d)
            else:
                left = words(upper, lower, d, factor)
            product(left, rows, sums, 0)

    return stage, scores


def _weigher(kind, dv, chunks):
    """Make f(values, step, weights, c, r, first, last, column, sums): weights times values."""
    read = value_reader(kind, dv)

    @inline
    def weigh(values, step, weights, c, r, first, last, column, sums):
        rows, left = registers_i32(16), registers_i32(16)
        for t in unroll(4):
            words = as_left(weights, t)
            for i in unroll(4):
                left[4 * t + i] = words[i]
        values += 16 * step * r
        first, last = to_i32(first - 16 * r), to_i32(last - 16 * r)
        for t in unroll(4):
            a = left[4 * t], left[4 * t + 1], left[4 * t + 2], left[4 * t + 3]
            for chunk in unroll(chunks):
                sync_warp()  # as above
                read(values, step, 4 * t, first, last, column + 64 * chunk + 8 * c, rows)
                multiply(a, rows, sums, SUMS * chunk)

    return weigh


def _softmax(n_sums):
    """Make f(scores, sums, state, half): turn the scores of one of a lane's two rows to weights.

    `state` has the greatest scores of both rows, and the lane's sums of weights.
    """

    @inline
    def softmax(scores, sums, state, half):
        top, total = state[half], ZERO
        for i in unroll(SUMS // 4):
            pair = maximum(scores[4 * i + 2 * half], scores[4 * i + 2 * half + 1])
            top = maximum(top, pair)
        top = _of_row(top)
        kept = quick_exp(state[half] - top)
        for i in unroll(SUMS // 4):
            for e in unroll(2):
                weight = quick_exp(scores[4 * i + 2 * half + e] - top)
                scores[4 * i + 2 * half + e] = weight
                total += weight
        for i in unroll(n_sums // 4):
            for e in unroll(2):
                sums[4 * i + 2 * half + e] = sums[4 * i + 2 * half + e] * kept
        state[half], state[2 + half] = top, state[2 + half] * kept + total

    return softmax


def _shaper(adjust):
    """Make f(scores, half, at, note, cap, terms, partly).

    It adjusts the scores of one of a lane's two rows, whose keys begin at position `at`; with
    `partly`, some keys may not be seen.
    """

    @inline
    def shape(scores, half, at, note, cap, terms, partly):
        position, first, end, head = load_shared_i32x4(note + NOTE_BYTES * half)
        first, end, ahead = to_i32(first - at), to_i32(end - at), to_i32(at - position)
        head = max(head, 0)
        for j in unroll(TILES):
            for e in unroll(2):
                i, key = 4 * j + 2 * half + e, j + 8 * e
                score = adjust(scores[i], cap, terms, head, ahead + key)
                if partly and (to_i32(key) < first or to_i32(key) >= end):
                    score = HIDDEN
                scores[i] = score

    return shape


def _store_sums(dv, chunks):
    """Make f(at, sums, half, factor, r, column): write one of a lane's two rows of sums."""

    @inline
    def store(at, sums, half, factor, r, column):
        for chunk in unroll(chunks):
            for e in unroll(2):
                i, first = SUMS * chunk + 2 * half + e, column + 64 * chunk + 16 * r + 8 * e
                if first < dv:
                    a = (sums[i] * factor, sums[i + 4] * factor, sums[i + 8] * factor,
                         sums[i + 12] * factor)  # fmt: skip
                    b = (sums[i + 16] * factor, sums[i + 20] * factor, sums[i + 24] * factor,
                         sums[i + 28] * factor)  # fmt: skip
                    store_f32x4(at + 4 * first, a)
                    store_f32x4(at + 4 * first + 16, b)

    return store


def attention_tile(
    keys, values, dk, dv, causal, chunked, cross, alone, sinks, slopes, reach, group, parts, capped
):
    """Make attention over a paged cache for `group` query heads that share a key head.

    Constants and arguments are those of `attention`, and three more constants; dk is a multiple
    of 16, dv of 8, rows of q, y and, if `alone`, of keys and values begin at multiples of 16 bytes;
    `capped` tells if `cap` counts. Queries for quantized keys have been rotated as they are, and
    what was summed of quantized values still must be (`rotate_heads`).

    If `parts` is 1, y is the result; the grid is (key heads * blocks, ceil(rows / (4 * tokens))),
    with blocks the product of `blocks_of(group, dv)`, and tokens `tokens_of_tile(group)`. Else it
    is a multiple of 4, y is float32 [rows, heads, parts, dv + RECORD], ldy the distance of its rows
    in floats, `attention_merge` does the rest, and the grid is (key heads * blocks * parts / 4,
    ceil(rows / tokens)).
    """
    head_blocks, column_blocks = blocks_of(group, dv)
    heads, tokens, chunks = heads_of_tile(group), tokens_of_tile(group), -(-min(dv, COLUMNS) // 64)
    n_sums, staged = SUMS * chunks, parts > 1 or dk <= COLUMNS
    room_bytes = 32 * dk * (1 if parts > 1 else WARPS) if staged else 16
    keys, values = ("f32", "f32") if alone else (kind_of(keys), kind_of(values))
    seen, store = bounds(causal, chunked, cross, alone), _store_sums(dv, chunks)
    shape, is_shaped = _shaper(adjusted(capped, slopes, reach)), bool(capped or slopes or reach)
    stage, scores_of = _scores(keys, dk, staged, alone)
    weigh, softmax = _weigher(values, dv, chunks), _softmax(n_sums)
    part_groups, cell_bytes = parts // WARPS, row_bytes(values, dv)

    @inline
    def note_row(note, half, token, start, last, begin, end, window, first_head, key_head):
        """Note position, cells and head of one of a lane's rows; return where its queries are.

        A row that is not there has head -1, and does what one that is there does.
        """
        number = (lane() >> 2) + 8 * half
        ahead, head = divide_u32(number, heads), first_head + remainder_u32(number, heads)
        is_there = ahead <= last and head < group
        ahead, head = minimum(ahead, last), group * key_head + minimum(head, group - 1)
        first, end = seen(start + ahead, begin, end, window)
        words = to_i32(start + ahead), to_i32(first), to_i32(end), to_i32(head if is_there else -1)
        store_shared_i32x4(note + NOTE_BYTES * half, words)
        return token + ahead, head

    @inline
    def end_row(y, ldy, sink, shift, note, half, part, filled, sums, state, r, column):
        """Write what was found for one of a lane's rows."""
        position, _, _, head = load_shared_i32x4(note + NOTE_BYTES * half)
        top, total = state[half], _sum_of_row(state[2 + half])
        if head < 0:
            return
        y += 4 * (position - shift) * ldy
        if parts > 1:
            y += 4 * (head * parts + part) * (dv + RECORD)
            if filled > 0:
                store(y, sums, half, ONE, r, column)
            if column + r == 0:
                store_f32(y + 4 * dv, top)
                store_f32(y + 4 * dv + 4, total)
        else:
            factor = ONE
            if sinks:
                sunk = load_f32(sink + 4 * head)
                most = maximum(top, sunk)
                factor = exp(top - most)
                total = total * factor + exp(sunk - most)
            factor = factor / total if total > ZERO else ZERO
            store(y + 4 * head * dv, sums, half, factor, r, column)

    def kernel(
        run: A, q: A, y: A, pages: A, v: A, sink: A, terms: A, ldq: U, ldy: U, heads_per_key: U,
        head_bytes: U, key_bytes: U, page_bytes: U, caches: U, window: U, scale: F, cap: F,
        ldk: U, ldv: U,
    ):  # fmt: skip
        c, r, unit, tile, part = lane() >> 2, lane() & 3, group_of_row(), group_y(), 0
        room, note = shared(room_bytes) + 16 * lane(), shared(NOTES_BYTES) + 16 * thread()
        if parts > 1:  # all warps have the same queries and write the same words
            part = WARPS * remainder_u32(unit, part_groups) + warp()
            unit = divide_u32(unit, part_groups)
        else:
            tile = WARPS * tile + warp()
            if staged:
                room += 32 * dk * warp()
        column, unit = COLUMNS * remainder_u32(unit, column_blocks), divide_u32(unit, column_blocks)
        key_head = divide_u32(unit, head_blocks)
        first_head = ROWS_OF_WARP * remainder_u32(unit, head_blocks)
        token = tokens * tile
        scores, sums, state = registers_f32(SUMS), registers_f32(n_sums), registers_f32(4)
        while token < minimum(tokens * (tile + 1), n_rows(run)):
            stop = minimum(tokens * (tile + 1), n_rows(run))
            segment = segment_of(run, token)
            row, begin = segment_word(run, segment, ROW), segment_word(run, segment, POSITION)
            shift, end = begin - row, begin + segment_word(run, segment, ROWS)
            start, last = token + shift, minimum(stop, end - shift) - token - 1
            if cross:
                end = segment_word(run, segment, CROSS)
            row, head = note_row(
                note, 0, token, start, last, begin, end, window, first_head, key_head
            )
            upper = q + 4 * (row * ldq + head * dk + 4 * r)
            row, head = note_row(
                note, 1, token, start, last, begin, end, window, first_head, key_head
            )
            lower = q + 4 * (row * ldq + head * dk + 4 * r)
            stage(upper, lower, room, scale)
            first, all_end = seen(start, begin, end, window)
            all_first, end = seen(start + last, begin, end, window)
            block, stop_block = first >> 6, (end + PAGE - 1) >> 6
            if parts > 1:
                share = divide_u32(maximum(stop_block - block, 0) + parts - 1, parts)
                block += share * part
                stop_block = minimum(stop_block, block + share)
            filled = block < stop_block
            ways = to_i32(token + last + 1), to_i32(shift), to_i32(filled), to_i32(0)
            store_shared_i32x4(note + 2 * NOTE_BYTES, ways)
            for i in unroll(n_sums):
                sums[i] = ZERO
            for half in unroll(2):
                state[half], state[2 + half] = LOWEST, ZERO
            page = 0
            if not alone:
                numbers, length = table_of(run, segment, caches & 0xFFFF, caches >> 16)
                if filled:
                    page = page_at(numbers, length, block)
            while block < stop_block:
                at = PAGE * block
                low, high = maximum(first - at, 0), minimum(end - at, PAGE) - 1
                if alone:
                    own, key_step, step = at - shift, 4 * ldk, 4 * ldv
                    cells = pages + 4 * (own * ldk + key_head * dk)
                    rows = v + 4 * (own * ldv + key_head * dv)
                else:
                    cells = pages + page * page_bytes + key_head * head_bytes
                    rows, key_step, step = cells + key_bytes, 0, cell_bytes
                    page = page_at(numbers, length, minimum(block + 1, stop_block - 1))
                for i in unroll(SUMS):
                    scores[i] = ZERO
                scores_of(
                    upper, lower, room, scale, cells, key_step, c, r, to_i32(low), to_i32(high),
                    scores,
                )  # fmt: skip
                partly = at < all_first or at + PAGE > all_end
                if is_shaped or partly:
                    shape(scores, 0, at + 16 * r, note, cap, terms, partly)
                    shape(scores, 1, at + 16 * r, note, cap, terms, partly)
                softmax(scores, sums, state, 0)
                softmax(scores, sums, state, 1)
                weigh(rows, step, scores, c, r, low, high, column, sums)
                block += 1
            token, shift, filled, _ = load_shared_i32x4(note + 2 * NOTE_BYTES)
            end_row(y, ldy, sink, shift, note, 0, part, filled, sums, state, r, column)
            end_row(y, ldy, sink, shift, note, 1, part, filled, sums, state, r, column)
            if parts > 1:
                sync_threads()  # before the queries are written over

    return kernel
