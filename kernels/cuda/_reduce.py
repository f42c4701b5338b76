"""Sums and maxima over a workgroup, the same for all threads, in an order that never changes."""

from jitllm.kernels.gpu.vocabulary import (
    inline,
    lane,
    load_shared_f32,
    maximum,
    shared,
    store_shared_f32,
    sync_threads,
    unroll,
    warp,
    warp_max,
    warp_sum,
)

WARP = 32


@inline
def _add(a, b):
    return a + b


def group_sum(threads):
    """Return f(x), the sum of x over a workgroup of `threads`: warps first, in ascending order."""
    return _reducer(threads, warp_sum, _add)


def group_max(threads):
    """Return f(x), the maximum of x over a workgroup of `threads`."""
    return _reducer(threads, warp_max, maximum)


def _reducer(threads, of_warp, combine):
    warps = threads // WARP
    room_bytes, others = 4 * warps, warps - 1
    if warps == 1:
        return of_warp

    @inline
    def reduce(x):
        room, part = shared(room_bytes), of_warp(x)
        if lane() == 0:
            store_shared_f32(room + 4 * warp(), part)
        sync_threads()
        total = load_shared_f32(room)
        for i in unroll(others):
            total = combine(total, load_shared_f32(room + 4 + 4 * i))
        sync_threads()  # before the room is used again
        return total

    return reduce
