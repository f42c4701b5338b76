"""Sorts rows by their experts, so that products of many rows have one matrix each.

Rows of an expert fill whole tiles of some rows; the products of many rows take tiles. One workgroup
does it, as a counting sort: threads have pieces of the ids, and count each expert's in theirs; with
what earlier experts and earlier pieces have, that says where the rows of a piece go. 4096 ids (512
tokens) of 128 experts are 64 pieces, and take about 10000 clocks, 6 us.
"""

from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    divide_u32,
    inline,
    load_shared_i32,
    load_u32,
    minimum,
    shared,
    store_i32,
    store_shared_i32,
    sync_threads,
    thread,
    to_i32,
)

THREADS = 256
MOST_EXPERTS, MOST_COUNTS = 1024, 8192
TILES_BYTES, COUNTS_BYTES = 4 * MOST_EXPERTS, 4 * MOST_COUNTS


@inline
def _advance(at):
    """Return a number of shared memory, and make it one more."""
    value = load_shared_i32(at)
    store_shared_i32(at, to_i32(value + 1))
    return value


@inline
def _total(counts, pieces):
    """Return the sum of an expert's counts."""
    total = 0
    for i in range(pieces):
        total += load_shared_i32(counts + 4 * i)
    return total


@inline
def _make_places(counts, pieces, place):
    """Replace an expert's counts by the places where they begin; returns where they end."""
    for i in range(pieces):
        count = load_shared_i32(counts + 4 * i)
        store_shared_i32(counts + 4 * i, to_i32(place))
        place += count
    return place


def group_rows(tokens):
    """Make the kernel for tiles of `tokens` rows, a power of two. Grid: 1.

    rows        uint32: how many ids there are
    ids         uint32 [rows]: the expert of each row
    slots       int32 [tiles][tokens]: rows in ascending order, -1 where a tile has no more
    tiles       int32: the number of tiles, then the expert of each
    experts     how many there are, at most 1024

    There are at most rows / tokens + min(experts, rows) tiles.
    """

    def kernel(rows: A, ids: A, slots: A, tiles: A, experts: U):
        count, counts, sizes = load_u32(rows), shared(COUNTS_BYTES), shared(TILES_BYTES)
        pieces = (minimum(THREADS, divide_u32(MOST_COUNTS, experts)) - 1) | 1  # odd: all banks
        each = divide_u32(count + pieces - 1, pieces)
        first = minimum(each * thread(), count) if thread() < pieces else count
        end, own = minimum(first + each, count), counts + 4 * thread()
        for i in range(thread(), experts * pieces, THREADS):
            store_shared_i32(counts + 4 * i, to_i32(0))
        sync_threads()
        for row in range(first, end):
            _advance(own + 4 * pieces * load_u32(ids + 4 * row))
        sync_threads()
        for expert in range(thread(), experts, THREADS):
            size = _total(counts + 4 * pieces * expert, pieces) + tokens - 1
            store_shared_i32(sizes + 4 * expert, to_i32(size // tokens))
        sync_threads()
        for expert in range(thread(), experts, THREADS):
            tile = _total(sizes, expert)
            last = tile + load_shared_i32(sizes + 4 * expert)
            place = _make_places(counts + 4 * pieces * expert, pieces, tile * tokens)
            for i in range(place, last * tokens):
                store_i32(slots + 4 * i, to_i32(-1))
            for i in range(tile, last):
                store_i32(tiles + 4 + 4 * i, to_i32(expert))
            if expert == experts - 1:
                store_i32(tiles, to_i32(last))
        sync_threads()
        for row in range(first, end):
            place = _advance(own + 4 * pieces * load_u32(ids + 4 * row))
            store_i32(slots + 4 * place, to_i32(row))

    return kernel
