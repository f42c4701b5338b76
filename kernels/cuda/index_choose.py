"""The best positions, or blocks of them, by their scores: a workgroup for a row and head."""

import numpy as np

from jitllm.kernels.cuda._run import n_rows, position_of, segment_of
from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    as_i32,
    divide_u32,
    group_of_row,
    group_y,
    inline,
    lane,
    load_f32,
    load_shared_i32,
    shared,
    shuffle_i32,
    store_f32,
    store_shared_i32,
    sync_threads,
    thread,
    to_f32,
    to_i32,
    unroll,
    warp,
    warp_sum,
)

THREADS = 256
WARPS = THREADS // 32
ROOM_BYTES = 4 * WARPS
NONE = np.float32(-1)


@inline
def _rank(scores, i):
    """Return a whole number that is larger where a score is, from -2^31 on; NaN is the lowest."""
    x = load_f32(scores + 4 * i)
    bits = as_i32(x) + 0
    rank = bits if bits >= 0 else -2147483648 - bits
    return rank if x == x else -2147483648


@inline
def _before(room, flag):
    """Return how many threads before this one have the flag set, and how many of all."""
    own = to_i32(flag)
    seen = own
    for i in unroll(5):
        other = shuffle_i32(seen, max(lane() - (1 << i), 0))
        if lane() >= 1 << i:
            seen = to_i32(seen + other)
    if lane() == 31:
        store_shared_i32(room + 4 * warp(), seen)
    sync_threads()
    before, total = seen - own + 0, 0
    for i in unroll(WARPS):
        count = load_shared_i32(room + 4 * i) + 0
        if i < warp():
            before += count
        total += count
    sync_threads()
    return before, total


@inline
def _count(room, scores, n, bound):
    """Return how many ranks are at least `bound`."""
    own = 0
    for i in range(thread(), n, THREADS):
        if _rank(scores, i) >= bound:
            own += 1
    count = warp_sum(to_i32(own))
    if lane() == 0:
        store_shared_i32(room + 4 * warp(), count)
    sync_threads()
    total = 0
    for i in unroll(WARPS):
        total += load_shared_i32(room + 4 * i)
    sync_threads()
    return total


@inline
def _threshold(room, scores, n, k):
    """Return the k-th largest rank, and how many ranks are larger."""
    low, high = -2147483648, 2147483648  # at least k ranks are >= low, fewer are >= high
    above = 0
    while high - low > 1:
        middle = (low + high) >> 1
        count = _count(room, scores, n, middle)
        if count >= k:
            low = middle
        else:
            high, above = middle, count
    return low, above


def index_choose(size, is_blocks):
    """Make the list of positions of the top_k best of a row: ascending, followed by -1.

    Scores are of blocks of `size` positions, or of the last ones of such blocks, which alone are
    listed. Of equal scores the lower position comes first. A row that sees no more than top_k needs
    no scores.
    """
    each = size if is_blocks else 1

    @inline
    def write(y, place, item, position):
        for j in range(each):
            s = item * size + j if is_blocks else item * size + size - 1
            store_f32(y + 4 * (place * each + j), to_f32(s) if s <= position else NONE)

    def kernel(run: A, scores: A, y: A, lds: U, most: U, ldy: U, top_k: U):
        row, head, room = group_y(), group_of_row(), shared(ROOM_BYTES)
        if row >= n_rows(run):
            return
        position = position_of(run, segment_of(run, row), row)
        n = divide_u32(position, size) + 1 if is_blocks else divide_u32(position + 1, size)
        scores += 4 * (row * lds + head * most)
        y += 4 * (row * ldy + head * top_k * each)
        bound, equals = -2147483649, 0
        if n > top_k:
            bound, above = _threshold(room, scores, n, top_k)
            equals = top_k - above
        place = 0
        for start in range(0, n, THREADS):
            i = start + thread()
            rank = bound - 1
            if i < n:
                rank = bound + 1 if n <= top_k else _rank(scores, i)
            equals_before, equals_here = _before(room, rank == bound)
            is_chosen = rank > bound or (rank == bound and equals_before < equals)
            before, here = _before(room, is_chosen)
            if is_chosen:
                write(y, place + before, i, position)
            equals, place = equals - equals_here, place + here
        for i in range(place * each + thread(), top_k * each, THREADS):
            store_f32(y + 4 * i, NONE)

    return kernel
