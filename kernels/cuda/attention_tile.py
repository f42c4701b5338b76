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

from jitllm.kernels.cache_types import row_bytes
from jitllm.kernels.cuda._attention_steps import (
    clear,
    scores_of,
    shaper,
    softmax_of,
    sum_of_row,
    sum_writer,
    weigher,
)
from jitllm.kernels.cuda._fragments import SUMS
from jitllm.kernels.cuda._layout import (
    COLUMNS,
    RECORD,
    ROWS_OF_WARP,
    blocks_of,
    heads_of_tile,
    tokens_of_tile,
)
from jitllm.kernels.cuda._numbers import kind_of
from jitllm.kernels.cuda._run import PAGE, n_rows, page_at, segment_of, table_of
from jitllm.kernels.cuda._scores import LOWEST, ONE, ZERO, adjusted, bounds
from jitllm.kernels.cuda._segments import CROSS, POSITION, ROW, ROWS, segment_word
from jitllm.kernels.gpu.vocabulary import (
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
    load_shared_i32x4,
    maximum,
    minimum,
    registers_f32,
    remainder_u32,
    shared,
    store_f32,
    store_shared_i32x4,
    sync_threads,
    thread,
    to_i32,
    warp,
)

THREADS, WARPS = 128, 4
NOTE_BYTES = 16 * THREADS  # what lanes know of one of their rows: registers are scarce
NOTES_BYTES = 3 * NOTE_BYTES


def _finder(group, dv, parts):
    """Make what returns the key head, the first of its heads, column, tile and part of a warp."""
    head_blocks, column_blocks = blocks_of(group, dv)
    part_groups = parts // WARPS

    @inline
    def find():
        unit, tile, part = group_of_row(), group_y(), 0
        if parts > 1:
            part = WARPS * remainder_u32(unit, part_groups) + warp()
            unit = divide_u32(unit, part_groups)
        else:
            tile = WARPS * tile + warp()
        column, unit = COLUMNS * remainder_u32(unit, column_blocks), divide_u32(unit, column_blocks)
        first_head = ROWS_OF_WARP * remainder_u32(unit, head_blocks)
        return divide_u32(unit, head_blocks), first_head, column, tile, part

    return find


@inline
def _of_part(first, stop, part, parts):
    """Return the first page of a part, and the one behind its last."""
    share = divide_u32(maximum(stop - first, 0) + parts - 1, parts)
    return first + share * part, minimum(stop, first + share * (part + 1))


def _noter(seen, group, dk):
    """Make what notes position, cells and head of one of a lane's rows, `half` of two.

    A row that is not there has head -1, and does what one that is there does. Returned is where a
    lane's first numbers of its queries are.
    """
    heads = heads_of_tile(group)

    @inline
    def note_row(
        q, ldq, note, half, token, start, last, begin, end, window, first_head, key_head
    ):  # fmt: skip
        number = (lane() >> 2) + 8 * half
        ahead, head = divide_u32(number, heads), first_head + remainder_u32(number, heads)
        is_there = ahead <= last and head < group
        ahead, head = minimum(ahead, last), group * key_head + minimum(head, group - 1)
        first, end = seen(start + ahead, begin, end, window)
        words = to_i32(start + ahead), to_i32(first), to_i32(end), to_i32(head if is_there else -1)
        store_shared_i32x4(note + NOTE_BYTES * half, words)
        return q + 4 * ((token + ahead) * ldq + head * dk + 4 * (lane() & 3))

    return note_row


def _ender(dv, chunks, parts, sinks):
    """Make what writes the sums that were found for one of a lane's rows, `half` of two."""
    store = sum_writer(dv, chunks)

    @inline
    def end_row(y, ldy, sink, shift, note, half, part, filled, sums, state, r, column):
        position, _, _, head = load_shared_i32x4(note + NOTE_BYTES * half)
        top, total = state[half], sum_of_row(state[2 + half])
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

    return end_row


def attention_tile(
    keys, values, dk, dv, causal, chunked, cross, alone, sinks, slopes, reach, group, parts, capped
):
    """Make attention over a paged cache for `group` query heads that share a key head.

    Constants and arguments are those of `attention`, and three more constants; dk is a multiple
    of 16, dv of 8, rows of q, y and, if `alone`, of keys and values begin at multiples of 16 bytes;
    `capped` tells if `cap` counts. Queries for quantized keys have been rotated, and what was
    summed of quantized values still must be (`rotate_heads`).

    If `parts` is 1, y is the result; the grid is (key heads * blocks, ceil(rows / (4 * tokens))),
    with blocks the product of `blocks_of(group, dv)`, and tokens `tokens_of_tile(group)`. Else it
    is a multiple of 4, y is float32 [rows, heads, parts, dv + RECORD], ldy the distance of its rows
    in floats, `attention_merge` does the rest, and the grid is (key heads * blocks * parts / 4,
    ceil(rows / tokens)).
    """
    tokens, chunks = tokens_of_tile(group), -(-min(dv, COLUMNS) // 64)
    n_sums, staged = SUMS * chunks, parts > 1 or dk <= COLUMNS
    room_bytes = 32 * dk * (1 if parts > 1 else WARPS) if staged else 16
    keys, values = ("f32", "f32") if alone else (kind_of(keys), kind_of(values))
    seen = bounds(causal, chunked, cross, alone)
    note_row, end_row = _noter(seen, group, dk), _ender(dv, chunks, parts, sinks)
    shape, is_shaped = (
        shaper(adjusted(capped, slopes, reach), NOTE_BYTES),
        capped or slopes or reach,
    )
    stage, score = scores_of(keys, dk, staged, alone, WARPS if parts > 1 else 1)
    weigh, softmax = weigher(values, dv, chunks), softmax_of(n_sums)
    find, cell_bytes = _finder(group, dv, parts), row_bytes(values, dv)

    def kernel(
        run: A, q: A, y: A, pages: A, v: A, sink: A, terms: A, ldq: U, ldy: U, heads_per_key: U,
        head_bytes: U, key_bytes: U, page_bytes: U, caches: U, window: U, scale: F, cap: F,
        ldk: U, ldv: U,
    ):  # fmt: skip
        c, r = lane() >> 2, lane() & 3
        key_head, first_head, column, tile, part = find()
        room, note = shared(room_bytes) + 16 * lane(), shared(NOTES_BYTES) + 16 * thread()
        if parts == 1 and staged:  # else all warps have the same queries
            room += 32 * dk * warp()
        token = tokens * tile
        scores, sums, state = registers_f32(SUMS), registers_f32(n_sums), registers_f32(4)
        while token < minimum(tokens * (tile + 1), n_rows(run)):
            stop, segment = minimum(tokens * (tile + 1), n_rows(run)), segment_of(run, token)
            row, begin = segment_word(run, segment, ROW), segment_word(run, segment, POSITION)
            shift, end = begin - row, begin + segment_word(run, segment, ROWS)
            start, last = token + shift, minimum(stop, end - shift) - token - 1
            if cross:
                end = segment_word(run, segment, CROSS)
            upper = note_row(
                q, ldq, note, 0, token, start, last, begin, end, window, first_head, key_head
            )
            lower = note_row(
                q, ldq, note, 1, token, start, last, begin, end, window, first_head, key_head
            )
            stage(upper, lower, room, scale)
            first, all_end = seen(start, begin, end, window)
            all_first, end = seen(start + last, begin, end, window)
            block, stop_block = _of_part(first >> 6, (end + PAGE - 1) >> 6, part, parts)
            filled = block < stop_block
            ways = to_i32(token + last + 1), to_i32(shift), to_i32(filled), to_i32(0)
            store_shared_i32x4(note + 2 * NOTE_BYTES, ways)
            clear(sums, n_sums, ZERO)
            clear(state, 4, ZERO)
            state[0], state[1], page = LOWEST, LOWEST, 0
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
                clear(scores, SUMS, ZERO)
                score(
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
