"""The largest numbers of a row and where they are: a workgroup for a part of it, then one for all.

Runs of k keys are sorted in shared memory by a bitonic network; then pairs of runs become one, the
k largest of both (K. E. Batcher, Sorting networks and their applications, 1968).
"""

import numpy as np

from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    as_i32,
    group_of_row,
    group_y,
    inline,
    load_f32,
    load_i64,
    load_shared_i32x2,
    load_u32,
    shared,
    store_f32,
    store_i32,
    store_i64,
    store_shared_i32x2,
    sync_threads,
    thread,
    to_i32,
)

THREADS = 256
LOG_ITEMS = 11
ITEMS = 1 << LOG_ITEMS  # keys that are compared at a time
ROOM_BYTES = 8 * ITEMS
WORD = 0xFFFFFFFF
LOWEST = -(1 << 63)  # below all keys
NAN_RANK = 0x7FFFFFFF
ZERO, NEVER = np.float32(0), np.float32(-np.inf)


@inline
def _key(x, i):
    """Return what is larger where a number is, and of equal numbers where i is lower.

    NaN is the largest.
    """
    x += ZERO  # -0 becomes 0
    bits = as_i32(x) + 0
    rank = bits if bits >= 0 else -2147483648 - bits
    rank = rank if x == x else NAN_RANK
    return rank << 32 | (WORD - i)


@inline
def _get(room, i):
    low, high = load_shared_i32x2(room + 8 * i)
    return (high + 0) << 32 | (low & WORD)


@inline
def _put(room, i, key):
    store_shared_i32x2(room + 8 * i, (to_i32(key), to_i32(key >> 32)))


def _network(k):
    """Make sort(room) and merge(room): each run of k sorted, and the first of ITEMS / k of them.

    Runs descend.
    """
    log_k = k.bit_length() - 1
    log_half, half = max(log_k - 1, 0), max(k // 2, 1)

    @inline
    def exchange(room, n, log_step, distance, mask):
        """Order n pairs i, i ^ mask of runs that lie 1 << log_step apart."""
        for p in range(thread(), n, THREADS):
            e = p & (half - 1)
            i = ((p >> log_half) << log_step) + e + (e & -distance)  # without the bit `distance`
            one, other = _get(room, i), _get(room, i ^ mask)
            if one < other:
                _put(room, i, other)
                _put(room, i ^ mask, one)
        sync_threads()

    @inline
    def sort(room):
        for level in range(log_k):
            exchange(room, ITEMS // 2, log_k, 1 << level, (2 << level) - 1)
            for down in range(1, level + 1):
                exchange(room, ITEMS // 2, log_k, 1 << level >> down, 1 << level >> down)

    @inline
    def merge(room):
        for log_step in range(log_k, LOG_ITEMS):
            n = ITEMS >> (log_step + 1 - log_k)
            for p in range(thread(), n, THREADS):
                i = ((p >> log_k) << (log_step + 1)) + (p & (k - 1))
                other = _get(room, (i | (k - 1)) - (p & (k - 1)) + (1 << log_step))
                if _get(room, i) < other:
                    _put(room, i, other)
            sync_threads()
            for down in range(1, log_k + 1):
                exchange(room, n >> 1, log_step + 1, k >> down, k >> down)

    return sort, merge


def best(k, is_last):
    """Make the choice of the k largest of n numbers, k a power of 2.

    First each workgroup writes the k keys of its `part` numbers, those of part 0 first; then, with
    `is_last`, one workgroup makes of the `n_keys` keys of a row k ids and k values, descending, of
    equal ones the lower id first. Past n numbers they are -1 and -inf.
    """
    sort, merge = _network(k)

    def kernel(rows: A, x: A, keys: A, y: A, ldx: U, n: U, n_keys: U, part: U):
        row, group, room = group_y(), group_of_row(), shared(ROOM_BYTES)
        if row >= load_u32(rows):
            return
        x += 4 * row * ldx
        keys += 8 * row * n_keys
        y += 8 * row * k
        start, stop = group * part, n_keys if is_last else min(n, (group + 1) * part)
        kept = 0
        while start < stop:
            for i in range(kept + thread(), ITEMS, THREADS):
                j, key = start + i - kept, LOWEST
                if j < stop:
                    key = load_i64(keys + 8 * j) if is_last else _key(load_f32(x + 4 * j), j)
                _put(room, i, key)
            sync_threads()
            if not is_last:
                sort(room)
            merge(room)
            start += ITEMS - kept
            kept = k
        for i in range(thread(), k, THREADS):
            key = _get(room, i)
            if is_last:
                place = WORD - (key & WORD)
                store_i32(y + 4 * i, to_i32(place))
                store_f32(y + 4 * (k + i), load_f32(x + 4 * place) if place < n else NEVER)
            else:
                store_i64(keys + 8 * (group * k + i), key)

    return kernel
