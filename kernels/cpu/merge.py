"""Joining neighbours in words, lowest rank first (Sennrich et al., 2016), by a trie of symbols.

A symbol is a node of the trie (-1: a character that is none) and a range of bytes. Joins that are
possible wait in a heap, ordered by rank, then by place; one is stale when the symbol on its left or
right was joined with another since, which its end shows.
"""

from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.trie import insert, slot_of, walk
from jitllm.kernels.simd import load_i32, load_i64, load_u8, store_i32, store_i64

LOW = (1 << 32) - 1
SPACE = 32
NODE, START, END, BEFORE, AFTER = 0, 4, 8, 12, 16  # of a symbol, int32 each
SYMBOL_BYTES, JOIN_BYTES = 20, 16
GONE = -1  # in place of the end of a symbol that became part of the one before


def pairs(args, thread, n_threads, counter):
    """Read merges, texts "left right"; words: those of `trie.build` but nodes, then joins mask.

    An entry of `joins` is 16 bytes: 1 + left node * 2^32 + right node (0: empty), then rank * 2^32
    + node of both. Of two merges of a pair the first counts. Texts with several spaces are read in
    every way.
    """
    texts, ends, n = load_i64(args + 8), load_i64(args + 16), load_i64(args + 24)
    table, mask, limit = load_i64(args + 32), load_i64(args + 40), load_i64(args + 48)
    count, joins, join_mask = load_i64(args + 56), load_i64(args + 64), load_i64(args + 72)
    start, is_full = texts, False
    for rank in range(n):
        end = texts + load_i64(ends + 8 * rank)
        for at in range(start + 1, end - 1):
            if load_u8(at) == SPACE:
                left = insert(table, mask, limit, count, 0, start, at)
                right = insert(table, mask, limit, count, 0, at + 1, end)
                both = insert(table, mask, limit, count, left, at + 1, end)
                is_full = left < 0 or right < 0 or both < 0
                if is_full:
                    break
                _put(joins, join_mask, 1 + (left << 32) + right, (rank << 32) + both)
        start = end
        if is_full:
            store_i64(count, -1)
            break


@inline
def _put(joins, mask, key, value):
    slot = slot_of(key, mask)
    found = load_i64(joins + 16 * slot)
    while found != key and found != 0:
        slot = (slot + 1) & mask
        found = load_i64(joins + 16 * slot)
    if found == 0:
        store_i64(joins + 16 * slot, key)
        store_i64(joins + 16 * slot + 8, value)


def _joiner(by):
    """Make join(...): rank * 2^32 + node of two neighbours, -1 where they stay apart."""

    @inline
    def by_text(text, table, mask, ranks, joins, join_mask, left, right):
        first = load_i32(left + NODE)
        if first < 0:
            return -1
        start, end = text + load_i32(right + START), text + load_i32(right + END)
        node = walk(table, mask, first, start, end)
        rank = load_i32(ranks + 4 * node) if node >= 0 else -1
        return (rank << 32) + node if rank >= 0 else -1

    @inline
    def by_pair(text, table, mask, ranks, joins, join_mask, left, right):
        first, second = load_i32(left + NODE), load_i32(right + NODE)
        if first < 0 or second < 0:
            return -1
        key = 1 + (first << 32) + second
        slot = slot_of(key, join_mask)
        found = load_i64(joins + 16 * slot)
        while found != key and found != 0:
            slot = (slot + 1) & join_mask
            found = load_i64(joins + 16 * slot)
        return load_i64(joins + 16 * slot + 8) if found == key else -1

    return {"text": by_text, "pair": by_pair}[by]


@inline
def _sift_up(heap, i, order, what):
    while i > 0 and load_i64(heap + JOIN_BYTES * ((i - 1) // 2)) > order:
        above = heap + JOIN_BYTES * ((i - 1) // 2)
        store_i64(heap + JOIN_BYTES * i, load_i64(above))
        store_i64(heap + JOIN_BYTES * i + 8, load_i64(above + 8))
        i = (i - 1) // 2
    store_i64(heap + JOIN_BYTES * i, order)
    store_i64(heap + JOIN_BYTES * i + 8, what)


@inline
def _sift_down(heap, n, order, what):
    """Put a join at the top of a heap of n, whose first place is free."""
    i = 0
    while 2 * i + 1 < n:
        below = 2 * i + 1
        if below + 1 < n and load_i64(heap + JOIN_BYTES * below) > load_i64(
            heap + JOIN_BYTES * (below + 1)
        ):
            below += 1
        if load_i64(heap + JOIN_BYTES * below) >= order:
            break
        store_i64(heap + JOIN_BYTES * i, load_i64(heap + JOIN_BYTES * below))
        store_i64(heap + JOIN_BYTES * i + 8, load_i64(heap + JOIN_BYTES * below + 8))
        i = below
    store_i64(heap + JOIN_BYTES * i, order)
    store_i64(heap + JOIN_BYTES * i + 8, what)


@inline
def _characters(text, start, end, table, mask, symbols):
    """Write the characters of a word as symbols; returns how many."""
    n = 0
    while start < end:
        following = start + 1
        while following < end and load_u8(text + following) & 0xC0 == 0x80:
            following += 1
        symbol = symbols + SYMBOL_BYTES * n
        store_i32(symbol + NODE, walk(table, mask, 0, text + start, text + following))
        store_i32(symbol + START, start)
        store_i32(symbol + END, following)
        store_i32(symbol + BEFORE, n - 1)
        store_i32(symbol + AFTER, n + 1)
        start = following
        n += 1
    store_i32(symbols + SYMBOL_BYTES * n + END, GONE)  # what stands behind the last
    return n


def merge(*, by):
    """Make the kernel that joins the characters of words until no neighbours may be joined.

    One thread. With `by` "text" neighbours may be joined if the node of both has a rank, with
    "pair" if a table of pairs says so. Words: text ends n_words whole table mask ranks joins
    join_mask symbols heap nodes stops count. `ends` are int64 offsets of the words; `whole` bytes,
    1 for a word that stays whole if it is a node with a rank in `ranks` (int32, -1: none).
    `symbols` has 20 bytes for each character of the longest word and one more, `heap` 48. Written
    are int32 node and end of each symbol left, and to `count` how many.
    """
    join = _joiner(by)

    @inline
    def push(text, table, mask, ranks, joins, join_mask, left, right, i, heap, size):
        what = join(text, table, mask, ranks, joins, join_mask, left, right)
        if what >= 0:
            order = ((what >> 32) << 32) + i
            _sift_up(heap, size, order, (load_i32(right + END) << 32) + (what & LOW))
            size += 1
        return size

    @inline
    def join_word(text, table, mask, ranks, joins, join_mask, symbols, n, heap):
        size = 0
        for i in range(n - 1):
            left = symbols + SYMBOL_BYTES * i
            right = left + SYMBOL_BYTES
            size = push(text, table, mask, ranks, joins, join_mask, left, right, i, heap, size)
        while size > 0:
            i, what = load_i64(heap) & LOW, load_i64(heap + 8)
            size -= 1
            last = heap + JOIN_BYTES * size
            _sift_down(heap, size, load_i64(last), load_i64(last + 8))
            left = symbols + SYMBOL_BYTES * i
            right = symbols + SYMBOL_BYTES * load_i32(left + AFTER)
            # one of the two was joined with another since
            if load_i32(left + END) < 0 or load_i32(right + END) != what >> 32:
                continue
            store_i32(left + NODE, what & LOW)
            store_i32(left + END, what >> 32)
            store_i32(right + END, GONE)
            after, before = load_i32(right + AFTER), load_i32(left + BEFORE)
            store_i32(left + AFTER, after)
            if after < n:
                right = symbols + SYMBOL_BYTES * after
                store_i32(right + BEFORE, i)
                size = push(text, table, mask, ranks, joins, join_mask, left, right, i, heap, size)
            if before >= 0:
                right, left = left, symbols + SYMBOL_BYTES * before
                size = push(
                    text, table, mask, ranks, joins, join_mask, left, right, before, heap, size
                )

    def kernel(args, thread, n_threads, counter):
        text, ends, n_words = load_i64(args + 8), load_i64(args + 16), load_i64(args + 24)
        whole, table, mask = load_i64(args + 32), load_i64(args + 40), load_i64(args + 48)
        ranks, joins, join_mask = load_i64(args + 56), load_i64(args + 64), load_i64(args + 72)
        symbols, heap = load_i64(args + 80), load_i64(args + 88)
        nodes, stops, total, start = load_i64(args + 96), load_i64(args + 104), 0, 0
        for word in range(n_words):
            end, node = load_i64(ends + 8 * word), -1
            if load_u8(whole + word) != 0:
                node = walk(table, mask, 0, text + start, text + end)
            if node >= 0 and load_i32(ranks + 4 * node) >= 0:
                store_i32(nodes + 4 * total, node)
                store_i32(stops + 4 * total, end)
                total += 1
            else:
                n, i = _characters(text, start, end, table, mask, symbols), 0
                join_word(text, table, mask, ranks, joins, join_mask, symbols, n, heap)
                while i < n:
                    symbol = symbols + SYMBOL_BYTES * i
                    store_i32(nodes + 4 * total, load_i32(symbol + NODE))
                    store_i32(stops + 4 * total, load_i32(symbol + END))
                    total += 1
                    i = load_i32(symbol + AFTER)
            start = end
        store_i64(load_i64(args + 112), total)

    return kernel
