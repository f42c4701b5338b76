"""A token of each row, chosen among its largest logits by steps that the row brings along.

All is float32, and sums go from left to right, as in the samplers of `jitllm.llm.sampling`. These
take exponentials and logarithms that are rounded once, below 2 ulp here, and draw with a sum and a
number of float64: tokens differ where that number is within 5e-7 of the end of a token's share, or
a sum of shares is as near to a bound.

A workgroup has a row, a thread one of its logits; what is to be known of all of them each thread
finds out for itself.
"""

import numpy as np

from jitllm.kernels.cpu import vmath
from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    as_f32,
    as_i32,
    fabs,
    fma,
    group_y,
    inline,
    load_f32,
    load_i32,
    load_shared_f32,
    load_shared_i32,
    load_u32,
    log,
    maximum,
    shared,
    sqrt,
    store_i32,
    store_shared_f32,
    store_shared_i32,
    sync_threads,
    thread,
    to_i32,
)

THREADS = 128
ROOM_BYTES = 4 * THREADS
STEP_BYTES = 8
KINDS = range(8)  # places in STEPS of backends/_gpu/draw.py
TOP_K, TOP_P, TYPICAL_P, MIN_P, TOP_N_SIGMA, TEMPERATURE, DIST, GREEDY = KINDS
KIND_MASK, LEAST_SHIFT = 0xFFFF, 16
ZERO, ONE, INF = np.float32(0), np.float32(1), np.float32(np.inf)


@inline
def _exp(x):
    """Return e^x of numbers up to 0, the way and the error those of `cpu.vmath`."""
    t = fma(x, vmath.LOG2_E, vmath.ROUND)
    k = t - vmath.ROUND
    r = fma(k, -vmath.LN2_LOW, fma(k, -vmath.LN2_HIGH, x))
    p = fma(fma(fma(vmath.E6, r, vmath.E5), r, vmath.E4), r, vmath.E3)
    p = fma(fma(p, r, vmath.E2), r * r, r) + ONE
    bits = as_i32(p) + (as_i32(t) << 23)
    return as_f32(to_i32(bits)) if x >= vmath.EXP_LOWEST else ZERO


@inline
def _share(room, x):
    """Leave the number of each thread where all can read it."""
    sync_threads()
    store_shared_f32(room + 4 * thread(), x)
    sync_threads()


@inline
def _sum(room, n):
    total = ZERO
    for i in range(n):
        total += load_shared_f32(room + 4 * i)
    return total


@inline
def _reaching(room, n, bound, is_above):
    """Return how many numbers it takes until their sum is at least, or above, a bound; or n."""
    total = ZERO
    for i in range(n):
        total += load_shared_f32(room + 4 * i)
        if total > bound or (total == bound and not is_above):
            return i + 1
    return n


@inline
def _largest(room, x, n):
    """Return the largest logit."""
    _share(room, x)
    top = -INF
    for i in range(n):
        top = maximum(top, load_shared_f32(room + 4 * i))
    return top


@inline
def _weigh(room, x, n):
    """Share e^(x - top); returns top and the sum."""
    top = _largest(room, x, n)
    _share(room, _exp(x - top))
    return top, _sum(room, n)


@inline
def _arranged(room, ids, key, x, token, n):
    """Return the logits and tokens of the threads in ascending order of keys; equal ones stay."""
    _share(room, key)
    place, at = thread(), 0
    if place < n:
        for i in range(n):
            other = load_shared_f32(room + 4 * i)
            if other < key or (other == key and i < place):
                at += 1
        place = at
    sync_threads()
    store_shared_f32(room + 4 * place, x)
    store_shared_i32(ids + 4 * place, token)
    sync_threads()
    return load_shared_f32(room + 4 * thread()), load_shared_i32(ids + 4 * thread())


@inline
def _top_p(room, x, n, p, least):
    """Return how many of sorted logits are left."""
    top, total = _weigh(room, x, n)
    _share(room, _exp(x - top) / total)
    return min(max(_reaching(room, n, p, False), least), n)


@inline
def _typical_p(room, ids, x, token, n, p, least):
    """Return logits and tokens, the most typical first, and how many are left."""
    top, total = _weigh(room, x, n)
    own = _exp(x - top) / total
    surprise = -log(own)
    _share(room, own * surprise if own > ZERO else ZERO)
    distance = fabs(surprise - _sum(room, n))
    x, token = _arranged(room, ids, distance, x, token, n)
    _share(room, _exp(x - top) / total)
    return x, token, min(max(_reaching(room, n, p, True), least), n)


@inline
def _min_p(room, ids, x, token, n, is_sorted, log_p, least):
    """Return logits and tokens, how many are left, and whether they are sorted."""
    out = ZERO if x >= _largest(room, x, n) + log_p else ONE
    _share(room, out)
    n_kept = n - to_i32(_sum(room, n))
    if not is_sorted:
        key = out if n_kept >= least else -x
        x, token = _arranged(room, ids, key, x, token, n)
    return x, token, max(n_kept, min(least, n)), is_sorted or n_kept < least


@inline
def _top_n_sigma(room, x, n, times):
    """Return the logit, or -inf where it is more than so many deviations below the largest."""
    top, is_possible = _largest(room, x, n), x > -INF
    _share(room, ONE if is_possible else ZERO)
    count = _sum(room, n)
    _share(room, x if is_possible else ZERO)
    off = x - _sum(room, n) / count
    _share(room, off * off if is_possible else ZERO)
    return -INF if x < top - times * sqrt(_sum(room, n) / count) else x


@inline
def _first(room, top, n):
    """Return the place of the first number that is the largest."""
    i = 0
    while i + 1 < n and load_shared_f32(room + 4 * i) != top:
        i += 1
    return i


def draw():
    """Make the choice of a token of each row.

    A row of `found` has k ids and k logits, at most THREADS, which descend; n tokens are there in
    all. A row of `draws` has steps of two words: their place in `backends._gpu.draw` with the
    fewest that they keep above it, and a float32. The id is -1 if the largest logit is not finite.
    """

    def kernel(rows: A, found: A, draws: A, drawn: A, k: U, n: U, draw_bytes: U):
        row, room, ids = group_y(), shared(ROOM_BYTES), shared(ROOM_BYTES)
        if row >= load_u32(rows):
            return
        found += 8 * k * row
        n, x, token, is_sorted = min(k, n), -INF, to_i32(-1), True
        if thread() < n:
            x, token = load_f32(found + 4 * (k + thread())), load_i32(found + 4 * thread())
        chosen, top = 0, load_f32(found + 4 * k)
        step = draws + draw_bytes * row
        stop = step + draw_bytes if fabs(top) < INF else step
        while step < stop:
            word, amount = load_u32(step), load_f32(step + 4)
            kind, least = word & KIND_MASK, word >> LEAST_SHIFT
            if kind <= TYPICAL_P and not is_sorted:
                x, token = _arranged(room, ids, -x, x, token, n)
                is_sorted = True
            if kind == TOP_K:
                n = min(n, to_i32(amount))
            elif kind == TOP_P:
                n = _top_p(room, x, n, amount, least)
            elif kind == TYPICAL_P:
                x, token, n = _typical_p(room, ids, x, token, n, amount, least)
                is_sorted = False
            elif kind == MIN_P:
                x, token, n, is_sorted = _min_p(room, ids, x, token, n, is_sorted, amount, least)
            elif kind == TOP_N_SIGMA and n > 1:
                x = _top_n_sigma(room, x, n, amount)
            elif kind == TEMPERATURE:
                x /= amount
            elif kind == DIST:
                top, total = _weigh(room, x, n)
                chosen, stop = _reaching(room, n, total * amount, False) - 1, step
            elif kind == GREEDY:
                top = _largest(room, x, n)
                chosen, stop = _first(room, top, n), step
            step += STEP_BYTES
        if thread() == chosen:
            store_i32(drawn + 4 * row, token if fabs(top) < INF else to_i32(-1))

    return kernel
