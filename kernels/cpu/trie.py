"""A trie of byte strings in one hash table, for tokenizers: a step down it is one look-up.

An entry of the table is 8 bytes: 1 + 256 * node + byte, then the number of the child; node 0 is the
root, 0 marks an empty entry, and collisions go on at the next one. A step costs one cache miss,
some 10 ns for the trie of a large vocabulary.
"""

from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.simd import load_i32, load_i64, load_u8, store_i32, store_i64

MULTIPLIER = -7046029254386353131  # 2^64 / golden ratio, as a signed number: Fibonacci hashing


@inline
def slot_of(key, mask):
    """Return where a key belongs in a table of mask + 1 entries."""
    return ((key * MULTIPLIER) >> 32) & mask


@inline
def child(table, mask, node, byte):
    """Return the child of a node, -1 if it has none for this byte."""
    key = 1 + 256 * node + byte
    slot = slot_of(key, mask)
    found = load_i32(table + 8 * slot)
    while found != key and found != 0:
        slot = (slot + 1) & mask
        found = load_i32(table + 8 * slot)
    return load_i32(table + 8 * slot + 4) if found == key else -1


@inline
def walk(table, mask, node, text, end):
    """Return the node below `node` for the bytes from `text` to `end`, -1 if there is none."""
    while text < end and node >= 0:
        node = child(table, mask, node, load_u8(text))
        text += 1
    return node


@inline
def grow(table, mask, limit, count, node, byte):
    """Return the child of a node, made if need be; -1 if all nodes are used.

    `count` is the address of the number of nodes, `limit` the most there may be.
    """
    following = child(table, mask, node, byte)
    if following < 0 and load_i64(count) < limit:
        following = load_i64(count)
        key = 1 + 256 * node + byte
        slot = slot_of(key, mask)
        while load_i32(table + 8 * slot) != 0:
            slot = (slot + 1) & mask
        store_i32(table + 8 * slot, key)
        store_i32(table + 8 * slot + 4, following)
        store_i64(count, following + 1)
    return following


@inline
def insert(table, mask, limit, count, node, text, end):
    """Return the node below `node` for the bytes from `text` to `end`, as `grow` does."""
    while text < end and node >= 0:
        node = grow(table, mask, limit, count, node, load_u8(text))
        text += 1
    return node


def build(args, thread, n_threads, counter):
    """Insert texts; words: texts ends n table mask limit count nodes. One thread.

    `ends` are int64 offsets of the texts, one behind the other, in the bytes at `texts`; `nodes`
    gets the int32 node of each, `count` (1 before the first call, for the root) the number of all,
    or -1 if there would be more than `limit`.
    """
    texts, ends, n = load_i64(args + 8), load_i64(args + 16), load_i64(args + 24)
    table, mask, limit = load_i64(args + 32), load_i64(args + 40), load_i64(args + 48)
    count, nodes, start = load_i64(args + 56), load_i64(args + 64), texts
    for i in range(n):
        end = texts + load_i64(ends + 8 * i)
        node = insert(table, mask, limit, count, 0, start, end)
        if node < 0:
            store_i64(count, -1)
            break
        store_i32(nodes + 4 * i, node)
        start = end
