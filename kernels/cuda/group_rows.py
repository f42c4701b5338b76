"""Sorts rows by their experts, so that products of many rows have one matrix each.

Rows of an expert fill whole tiles of some rows; `matmul` and `matmul_float` take tiles. One
workgroup does it, a thread for an expert: it reads all ids twice, 16 KB for 512 tokens of 8
experts, from the first-level cache, some clocks each: about 10 us.
"""

from jitllm.kernels.gpu import (
    A,
    U,
    inline,
    load_i32,
    load_shared_i32,
    load_u32,
    shared,
    store_i32,
    store_shared_i32,
    sync_threads,
    thread,
    to_i32,
)

THREADS = 128
MOST_EXPERTS = 1024
ROOM_BYTES = 4 * MOST_EXPERTS


@inline
def _count(ids, count, expert):
    """Return how many of the ids are an expert's."""
    found = 0
    for row in range(count):
        if load_i32(ids + 4 * row) == expert:
            found += 1
    return found


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
        count, room = load_u32(rows), shared(ROOM_BYTES)
        for expert in range(thread(), experts, THREADS):
            own = (_count(ids, count, expert) + tokens - 1) // tokens
            store_shared_i32(room + 4 * expert, to_i32(own))
        sync_threads()
        for expert in range(thread(), experts, THREADS):
            tile = 0
            for i in range(expert):
                tile += load_shared_i32(room + 4 * i)
            end = tile + load_shared_i32(room + 4 * expert)
            if expert == experts - 1:
                store_i32(tiles, to_i32(end))
            slot = tile * tokens
            for row in range(count if end > tile else 0):
                if load_i32(ids + 4 * row) == expert:
                    store_i32(slots + 4 * slot, to_i32(row))
                    slot += 1
            for rest in range(slot, end * tokens):
                store_i32(slots + 4 * rest, to_i32(-1))
            for i in range(tile, end):
                store_i32(tiles + 4 + 4 * i, to_i32(expert))

    return kernel
