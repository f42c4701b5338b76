"""Attention over a paged cache.

A unit of work is a tile: up to TILE_ROWS rows (token, query head) of one segment that share a kv
head. A row keeps a maximum m, a sum l and an output, and walks the pages of its keys in ascending
order, one online-softmax step a page (Milakov and Gimelshein, 2018; Dao et al., 2022). Every
SPAN_PAGES pages, counted from position 0, it starts afresh and adds the finished span to its total;
so spans may run on several threads (few rows, long cache) and give the bits of one thread.

Bits of a row depend on its own query and keys only: a step reads and changes nothing for a row
that sees no key of the page, lanes a row must not see are replaced before they are used, and its
weighted sum runs over exactly the positions it sees. Which rows share a tile is thus indifferent.

Per page of 64 keys, dk = dv = 64, f16: 16 KiB read, per row 512 fma of 16 lanes, 80 operations for
64 exponentials. One row per kv head is bound by memory, many rows by the fma units. Of a quantized
cache, each page is unpacked once for all rows of a tile (`cell_unpack`).
"""

from jitllm.kernels import abi, cache_types
from jitllm.kernels.atomics import atomic_add
from jitllm.kernels.cpu import attention_layout as layout
from jitllm.kernels.cpu.attention_layout import padded, private_floats, state_floats
from jitllm.kernels.cpu.attention_row import (
    CACHE,
    DK,
    DV,
    LDQ,
    N_HEADS,
    N_KV_HEADS,
    PAGE_BYTES,
    PAGES,
    SCALE,
    SCRATCH,
    SCRATCH_BYTES,
    SOFT_CAP,
    TABLE_PAGES,
    Q,
    biases,
    end_key,
    finish,
    first_key,
    merge,
    page_at,
    position_of,
    reset,
    segments_of,
    spans_of,
    step,
)
from jitllm.kernels.cpu.attention_tile import BLOCK_ROWS, scores, weigh
from jitllm.kernels.cpu.cell_unpack import key_unpacker, value_unpacker
from jitllm.kernels.cpu.hadamard import key_hadamard, rotate, value_hadamard
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.kv_write import row_sizer
from jitllm.kernels.cpu.vmath import ZERO, load_part
from jitllm.kernels.simd import (
    load_f32,
    load_f32x16,
    load_i64,
    reduce_add,
    splat_f32,
    store_f32,
    store_f32x16,
)

PAGE, TILE_ROWS = abi.PAGE_TOKENS, layout.TILE_ROWS
TICKETS = (1 << 32) - 1  # low half of the counter: units given out; high half: units finished

for _size in (padded, state_floats, private_floats):
    inline(_size)


# --- a tile ------------------------------------------------------------------------------------


def _rotater(kind, size_of):
    """Make f(row, n): rotate as rows of the cache are, by a matrix of size_of(n) columns."""

    @inline
    def rotate_row(row, n):
        size = size_of(n)
        if size > 0:
            rotate(row, n, size)

    @inline
    def nothing(row, n):
        pass

    return rotate_row if cache_types.is_quantized(kind) else nothing


def _query_packer(keys):
    """Make pack(...): copy the tile's queries, times scale, to rows of dk padded floats."""
    rotate_query = _rotater(keys, key_hadamard)

    @inline
    def pack(args, segment, group, g, first, n_rows, packed):
        dk, ldq = load_i64(args + DK), load_i64(args + LDQ)
        scale = splat_f32(load_f32(args + SCALE))
        for r in range(first, first + n_rows):
            at = load_i64(args + Q) + (load_i64(segment) + r // group) * ldq
            at += 4 * (g * group + r % group) * dk
            for i in range(0, dk, 16):
                store_f32x16(packed + 4 * i, load_part(at + 4 * i, dk - i) * scale)
            rotate_query(packed, dk)
            packed += 4 * padded(dk)

    return pack


def _finisher(values):
    """Make end(args, total, n, head, token): write what a row has found, rotated back."""
    rotate_back = _rotater(values, value_hadamard)

    @inline
    def end(args, total, n, head, token):
        rotate_back(total, load_i64(args + DV))
        finish(args, total, n, head, token)

    return end


def _reader(kind, unpacker):
    """Make read(cells, n, own): the address of a page's cells as the products read them.

    They are unpacked to `own` if they are quantized.
    """
    if not cache_types.is_quantized(kind):

        @inline
        def stay(cells, n, own):
            return cells

        return stay
    unpack = unpacker(kind)

    @inline
    def move(cells, n, own):
        unpack(cells, n, own)
        return own

    return move


@inline
def _bounds(args, segment, group, row, at):
    """Return the first and the end cell that a row sees of the page at position `at`."""
    position = position_of(segment, group, row)
    return max(0, first_key(args, position) - at), min(PAGE, end_key(args, segment, position) - at)


def _block(kv, alibi, reach):
    """Make the step of up to BLOCK_ROWS rows over one page.

    The positions that all rows see are summed for all at once, those before and after row by row:
    every row's sum ascends over exactly its own positions.
    """
    keys_type, values_type = cache_types.pair(kv)
    one_scores, many_scores = scores(keys_type, 1), scores(keys_type, BLOCK_ROWS)
    one_weigh, many_weigh = weigh(values_type, 1), weigh(values_type, BLOCK_ROWS)
    bias = biases(alibi, reach)

    @inline
    def block(args, segment, group, g, row, n_rows, at, keys, values, first_ahead, ahead, q, p,
              lane_sums, states):  # fmt: skip
        dk, dv = load_i64(args + DK), load_i64(args + DV)
        n, stride, cap = padded(dv), 4 * state_floats(dv), load_f32(args + SOFT_CAP)
        if n_rows == 1:
            one_scores(q, 4 * padded(dk), keys, dk, p, first_ahead)
        else:
            many_scores(q, 4 * padded(dk), keys, dk, p, first_ahead)
        bias(args, segment, group, g, row, n_rows, at, p)
        common, common_end = 0, PAGE
        for r in range(n_rows):
            first, end = _bounds(args, segment, group, row + r, at)
            common, common_end = max(common, first), min(common_end, end)
            if first < end:
                step(p + 4 * PAGE * r, first, end, cap, states + stride * r, lane_sums + 64 * r, n)
        if n_rows == 1:
            common = common_end
        common_end = max(common, common_end)
        # Rows on their own before the common positions (part 0) and after them (part 1).
        for part in range(2):
            for r in range(n_rows):
                first, end = _bounds(args, segment, group, row + r, at)
                if part == 0:
                    end = min(end, common)
                else:
                    first = max(first, common_end)
                if first < end:
                    one_weigh(p + 4 * PAGE * r, values, dv, first, end, states + stride * r, 0,
                              ahead)  # fmt: skip
            if part == 0 and common < common_end:
                many_weigh(p, values, dv, common, common_end, states, stride, ahead)

    return block


def _tile_span(kv, alibi, reach):
    """Make the function that walks one span's pages for one tile, from fresh states."""
    keys_type, values_type = cache_types.pair(kv)
    key_row, value_row = row_sizer(keys_type), row_sizer(values_type)
    read_keys = _reader(keys_type, key_unpacker)
    read_values = _reader(values_type, value_unpacker)
    own_keys = PAGE if cache_types.is_quantized(keys_type) else 0
    unpacks_values = cache_types.is_quantized(values_type)
    block = _block(kv, alibi, reach)

    @inline
    def walk(args, segment, group, g, row, n_rows, span, q, p, lane_sums, states, own):
        dk, dv = load_i64(args + DK), load_i64(args + DV)
        n, stride = padded(dv), 4 * state_floats(dv)
        for r in range(n_rows):
            reset(states + stride * r, n)
            store_f32x16(lane_sums + 64 * r, splat_f32(ZERO))
        first = first_key(args, position_of(segment, group, row)) // PAGE
        end = end_key(args, segment, position_of(segment, group, row + n_rows - 1))
        first = max(first, span * layout.SPAN_PAGES)
        end = min((end + PAGE - 1) // PAGE, (span + 1) * layout.SPAN_PAGES)
        tables = load_i64(segment + 8 * abi.SEGMENT_TABLES)
        pages, page_bytes = load_i64(args + PAGES), load_i64(args + PAGE_BYTES)
        cache, table_pages = load_i64(args + CACHE), load_i64(args + TABLE_PAGES)
        head = g * PAGE * (key_row(dk) + value_row(dv))
        for page in range(first, end):
            keys = page_at(pages, page_bytes, tables, cache, table_pages, page) + head
            values = keys + PAGE * key_row(dk)
            following = min(page + 1, end - 1)
            ahead = page_at(pages, page_bytes, tables, cache, table_pages, following) + head
            # What the scores fetch meanwhile, and the sums of values: the next that is read.
            first_ahead = ahead if unpacks_values else values
            if unpacks_values:
                ahead += PAGE * key_row(dk)
            keys = read_keys(keys, dk, own)
            values = read_values(values, dv, own + 4 * own_keys * dk)
            for r in range(0, n_rows, BLOCK_ROWS):
                block(args, segment, group, g, row + r, min(BLOCK_ROWS, n_rows - r), PAGE * page,
                      keys, values, first_ahead, ahead, q + 4 * padded(dk) * r, p,
                      lane_sums + 64 * r, states + stride * r)  # fmt: skip
        for r in range(n_rows):
            store_f32(states + stride * r + 4 * n + 4, reduce_add(load_f32x16(lane_sums + 64 * r)))

    return walk


# --- sharing the work ----------------------------------------------------------------------------


@inline
def _tiles(segment, group):
    """Return the tiles of a segment for one kv head."""
    rows = load_i64(segment + 8 * abi.SEGMENT_ROWS) * group
    return (rows + TILE_ROWS - 1) // TILE_ROWS


@inline
def _plan(args, n_threads, bytes_each):
    """Return the units of work, and whether each is one span of a tile instead of a whole tile.

    Threads share the spans of one row where tiles are few and memory for the partial states is
    enough.
    """
    run = load_i64(args)
    segment, n_kv = segments_of(args), load_i64(args + N_KV_HEADS)
    dv, n_heads = load_i64(args + DV), load_i64(args + N_HEADS)
    all_tiles, all_spans, floats = 0, 0, 0
    for _ in range(load_i64(run + 8 * abi.N_SEGMENTS)):
        first, end = spans_of(args, segment)
        tiles = n_kv * _tiles(segment, n_heads // n_kv)
        all_tiles += tiles
        all_spans += tiles * (end - first)
        rows = load_i64(segment + 8 * abi.SEGMENT_ROWS)
        floats += rows * n_heads * (end - first) * state_floats(dv)
        segment += 8 * abi.SEGMENT_WORDS
    memory = n_threads * (load_i64(args + SCRATCH_BYTES) - bytes_each)
    few = n_threads > 1 and all_tiles < 4 * n_threads
    if few and all_spans > all_tiles and 4 * floats <= memory:
        return all_spans, True
    return all_tiles, False


@inline
def _find(args, unit, shares):
    """Return (segment, what is left of `unit` in it, floats of partial states before it)."""
    segment, n_kv = segments_of(args), load_i64(args + N_KV_HEADS)
    n_heads, floats = load_i64(args + N_HEADS), 0
    while True:
        first, end = spans_of(args, segment)
        units = n_kv * _tiles(segment, n_heads // n_kv) * (end - first if shares else 1)
        if unit < units:
            return segment, unit, floats
        unit -= units
        rows = load_i64(segment + 8 * abi.SEGMENT_ROWS)
        floats += rows * n_heads * (end - first) * state_floats(load_i64(args + DV))
        segment += 8 * abi.SEGMENT_WORDS


@inline
def _copy(source, target, n_floats):
    for i in range(0, n_floats, 16):
        store_f32x16(target + 4 * i, load_f32x16(source + 4 * i))


def _unit(kv, alibi, reach):
    """Make the function that runs one unit: a tile, or one span of it when spans are shared."""
    walk, (keys_type, values_type) = _tile_span(kv, alibi, reach), cache_types.pair(kv)
    pack_queries, end = _query_packer(keys_type), _finisher(values_type)

    @inline
    def unit(args, number, shares, own, partial):
        segment, number, floats = _find(args, number, shares)
        n_kv, dk, dv = load_i64(args + N_KV_HEADS), load_i64(args + DK), load_i64(args + DV)
        group = load_i64(args + N_HEADS) // n_kv
        n, stride, tiles = padded(dv), 4 * state_floats(dv), _tiles(segment, group)
        g, number = number % n_kv, number // n_kv
        row = TILE_ROWS * (number % tiles)
        n_rows = min(TILE_ROWS, load_i64(segment + 8 * abi.SEGMENT_ROWS) * group - row)
        q = own
        p = q + 4 * TILE_ROWS * padded(dk)
        lane_sums = p + 4 * TILE_ROWS * PAGE
        states = lane_sums + 64 * TILE_ROWS
        totals = states + TILE_ROWS * stride
        unpacked = own + 4 * private_floats(dk, dv)
        pack_queries(args, segment, group, g, row, n_rows, q)
        first_span, end_span = spans_of(args, segment)
        n_spans, span = end_span - first_span, first_span
        if shares:
            span = first_span + number // tiles
            end_span = span + 1
        for r in range(n_rows):
            reset(totals + stride * r, n)
        while span < end_span:
            walk(args, segment, group, g, row, n_rows, span, q, p, lane_sums, states, unpacked)
            for r in range(n_rows):
                if shares:
                    at = ((row + r) * n_kv + g) * n_spans + span - first_span
                    _copy(states + stride * r, partial + 4 * floats + stride * at, n + 16)
                else:
                    merge(totals + stride * r, states + stride * r, n)
            span += 1
        if not shares:
            for r in range(n_rows):
                head = g * group + (row + r) % group
                token = load_i64(segment) + (row + r) // group
                end(args, totals + stride * r, n, head, token)

    return unit


def _merger(values):
    """Make merge(...): merge the spans of every row in ascending order, and finish the rows."""
    finish_row = _finisher(values)

    @inline
    def merge_shared(args, own, partial):
        run = load_i64(args)
        segment, n_kv = segments_of(args), load_i64(args + N_KV_HEADS)
        group, dv = load_i64(args + N_HEADS) // n_kv, load_i64(args + DV)
        n, stride = padded(dv), 4 * state_floats(dv)
        for _ in range(load_i64(run + 8 * abi.N_SEGMENTS)):
            first_span, end_span = spans_of(args, segment)
            rows = load_i64(segment + 8 * abi.SEGMENT_ROWS) * group
            for row in range(rows):
                token = load_i64(segment) + row // group
                for g in range(n_kv):
                    reset(own, n)
                    for _span in range(first_span, end_span):
                        merge(own, partial, n)
                        partial += stride
                    finish_row(args, own, n, g * group + row % group, token)
            segment += 8 * abi.SEGMENT_WORDS

    return merge_shared


def attention(*, kv, alibi=False, reach=0):
    """Make the attention kernel for a cache of types `kv` (`cache_types`, `abi.ATTENTION`).

    With `alibi`, far keys get lower scores, by the slopes of the heads; with `reach`, a table says
    what every distance adds. Whoever finishes the last unit of shared spans merges them all: little
    work beside the spans.
    """
    run_unit, (keys, values) = _unit(kv, alibi, reach), cache_types.pair(kv)
    merge_shared = _merger(values)
    own_keys, own_values = (PAGE if cache_types.is_quantized(x) else 0 for x in (keys, values))

    def kernel(args, thread, n_threads, counter):
        dk, dv = load_i64(args + DK), load_i64(args + DV)
        bytes_each = 4 * (private_floats(dk, dv) + own_keys * dk + own_values * dv)
        units, shares = _plan(args, n_threads, bytes_each)
        own = load_i64(args + SCRATCH) + thread * bytes_each
        partial = load_i64(args + SCRATCH) + n_threads * bytes_each
        number = atomic_add(counter, 1) & TICKETS
        while number < units:
            run_unit(args, units - 1 - number, shares, own, partial)  # the longest rows first
            finished = atomic_add(counter, 1 << 32) >> 32
            if shares and finished == units - 1:
                merge_shared(args, own, partial)
            number = atomic_add(counter, 1) & TICKETS

    return kernel
