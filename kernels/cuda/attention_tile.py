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
from jitllm.kernels.cuda._attention_notes import (
    NOTES_BYTES,
    PAGES_AT,
    PLACE_AT,
    SEEN_AT,
    STEP_BYTES,
    WARPS,
    note_words,
    noted_table,
    noter,
    row_note,
)
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
    load_shared_f32x4,
    load_shared_i32x4,
    maximum,
    minimum,
    registers_f32,
    remainder_u32,
    shared,
    store_f32,
    store_shared_f32x4,
    sync_threads,
    sync_warp,
    thread,
    warp,
)

THREADS = WARPS * 32
WEIGHTS_BYTES, ALL_NOTES_BYTES = 4 * STEP_BYTES, WARPS * NOTES_BYTES


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


def _ender(dv, chunks, parts, sinks):
    """Make what writes the sums that were found for a lane's two rows."""
    store = sum_writer(dv, chunks)

    @inline
    def end_row(y, ldy, sink, shift, own, notes, half, part, filled, sums, column):
        r = lane() & 3
        position, _, _, head = load_shared_i32x4(row_note(notes, half))
        state = load_shared_f32x4(own)
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

    @inline
    def end_rows(y, ldy, sink, shift, own, notes, part, filled, sums, column):
        end_row(y, ldy, sink, shift, own, notes, 0, part, filled, sums, column)
        end_row(y, ldy, sink, shift, own, notes, 1, part, filled, sums, column)

    return end_rows


def _groups(kinds, parts, chunks, is_shaped):
    """Return how many workgroups registers are shared by; with more, some would be memory."""
    is_light = kinds == ("f16", "f16") and not is_shaped
    return max(1, min(4 if parts == 1 else 3, (5 if is_light else 4) - chunks))


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
    note_rows, end_rows = noter(seen, group, dk), _ender(dv, chunks, parts, sinks)
    shape, is_shaped = shaper(adjusted(capped, slopes, reach)), capped or slopes or reach
    stage, score = scores_of(keys, dk, staged, alone, WARPS if parts > 1 else 1)
    weigh, softmax = weigher(values, dv, chunks), softmax_of(n_sums)
    find, cell_bytes = _finder(group, dv, parts), row_bytes(values, dv)
    is_split = dv > COLUMNS

    def kernel(
        run: A, q: A, y: A, pages: A, v: A, sink: A, terms: A, ldq: U, ldy: U, heads_per_key: U,
        head_bytes: U, key_bytes: U, page_bytes: U, caches: U, window: U, scale: F, cap: F,
        ldk: U, ldv: U,
    ):  # fmt: skip
        room, own = shared(room_bytes) + 16 * lane(), shared(STEP_BYTES) + 16 * thread()
        place = shared(WEIGHTS_BYTES) + 16 * thread()
        notes = shared(ALL_NOTES_BYTES) + NOTES_BYTES * warp()
        if parts == 1 and staged:  # else all warps have the same queries
            room += 32 * dk * warp()
        key_head, first_head, column, tile, part = find()
        note_words(notes + PLACE_AT, key_head, first_head, column, part)
        token, until = tokens * tile, tokens * (tile + 1)
        scores, sums = registers_f32(SUMS), registers_f32(n_sums)
        while token < minimum(until, n_rows(run)):
            sync_warp()
            key_head, first_head, _, part = load_shared_i32x4(notes + PLACE_AT)
            stop, segment = minimum(until, n_rows(run)), segment_of(run, token)
            row, begin = segment_word(run, segment, ROW), segment_word(run, segment, POSITION)
            shift, end = begin - row, begin + segment_word(run, segment, ROWS)
            start, last = token + shift, minimum(stop, end - shift) - token - 1
            if cross:
                end = segment_word(run, segment, CROSS)
            upper, lower = note_rows(
                q, ldq, notes, token, start, last, begin, end, window, first_head, key_head
            )
            stage(upper, lower, room, scale)
            first, all_end = seen(start, begin, end, window)
            all_first, end = seen(start + last, begin, end, window)
            block, stop_block = _of_part(first >> 6, (end + PAGE - 1) >> 6, part, parts)
            note_words(notes, token + last + 1, until, shift, block < stop_block)
            note_words(notes + SEEN_AT, first, end, all_first, all_end)
            clear(sums, n_sums, ZERO)
            store_shared_f32x4(own, (LOWEST, LOWEST, ZERO, ZERO))
            page = 0
            if not alone:
                numbers, length = table_of(run, segment, caches & 0xFFFF, caches >> 16)
                note_words(notes + PAGES_AT, numbers, numbers >> 32, length, stop_block)
                if block < stop_block:
                    page = page_at(numbers, length, block)
            sync_warp()
            while block < stop_block:
                first, end, all_first, all_end = load_shared_i32x4(notes + SEEN_AT)
                at = PAGE * block
                low, high = maximum(first - at, 0), minimum(end - at, PAGE) - 1
                key_head, _, column, _ = load_shared_i32x4(notes + PLACE_AT)
                if alone:
                    _, _, shift, _ = load_shared_i32x4(notes)
                    key_step, step = 4 * ldk, 4 * ldv
                    cells = pages + key_step * (at - shift) + 4 * key_head * dk
                    rows = v + step * (at - shift) + 4 * key_head * dv
                else:
                    cells = pages + page * page_bytes + key_head * head_bytes
                    rows, key_step, step = cells + key_bytes, 0, cell_bytes
                    numbers, length, stop_block = noted_table(notes + PAGES_AT)
                    page = page_at(numbers, length, minimum(block + 1, stop_block - 1))
                clear(scores, SUMS, ZERO)
                score(upper, lower, room, scale, cells, key_step, low, high, scores)
                partly = at < all_first or at + PAGE > all_end
                if is_shaped or partly:
                    shape(scores, at, notes, cap, terms, partly)
                softmax(scores, sums, own)
                weigh(rows, step, scores, place, low, high, column if is_split else 0, sums)
                block += 1
            token, until, shift, filled = load_shared_i32x4(notes)
            _, _, column, part = load_shared_i32x4(notes + PLACE_AT)
            end_rows(y, ldy, sink, shift, own, notes, part, filled, sums, column if is_split else 0)
            if parts > 1:
                sync_threads()  # before the queries are written over

    kernel.groups = _groups((keys, values), parts, chunks, is_shaped)
    return kernel
