"""The k largest of many scores, without sorting them.

The k-th largest is found bit by bit: 32 passes that count the scores above a candidate, 16 lanes at
a time, 2 n operations in all. The next pass writes the places of what is larger, and as many of the
equal ones as there is room for, lowest places first.
"""

import numpy as np

from jitllm.kernels.cpu.inline import helper, inline
from jitllm.kernels.cpu.vmath import ONE, ZERO, keep_part
from jitllm.kernels.simd import (
    load_f32,
    load_f32x16,
    reduce_add,
    splat_f32,
    store_f32x16,
    where_ge,
    where_gt,
    word_as_f32,
)

LOWEST = np.float32(-3.4028235e38)


@inline
def from_order(u):
    """Return the float32 at place u, from 0 to 2^32 - 1, of all in ascending order."""
    word = u - (1 << 31) if u >= 1 << 31 else -1 - u
    return word_as_f32(np.int32(word))


@helper
def _count_from(scores, n, least):
    total = splat_f32(ZERO)
    for i in range(0, n, 16):
        one = where_ge(load_f32x16(scores + 4 * i), least, splat_f32(ONE), splat_f32(ZERO))
        total = total + keep_part(one, n - i)
    return reduce_add(total)


@helper
def _count_above(scores, n, bound):
    total = splat_f32(ZERO)
    for i in range(0, n, 16):
        one = where_gt(load_f32x16(scores + 4 * i), bound, splat_f32(ONE), splat_f32(ZERO))
        total = total + keep_part(one, n - i)
    return reduce_add(total)


@helper
def make_finite(scores, n):
    """Replace NaN and minus infinity, in whole vectors, by the lowest finite number."""
    low = splat_f32(LOWEST)
    for i in range(0, n, 16):
        x = load_f32x16(scores + 4 * i)
        store_f32x16(scores + 4 * i, where_ge(x, low, x, low))


@helper
def threshold(scores, n, k):
    """Return (k-th largest of n > k scores, how many equal to it belong to the k largest).

    `scores` are float32 without NaN; up to 15 floats behind them are read.
    """
    u = 0
    for bit in range(31, -1, -1):
        candidate = u | (1 << bit)
        if _count_from(scores, n, splat_f32(from_order(candidate))) >= k:
            u = candidate
    bound = from_order(u)
    return bound, k - int(_count_above(scores, n, splat_f32(bound)))


@inline
def is_chosen(scores, i, bound, equals):
    """Return (whether score i is among the k largest, equal ones left); i must ascend."""
    score = load_f32(scores + 4 * i)
    if score > bound:
        return True, equals
    if score == bound and equals > 0:
        return True, equals - 1
    return False, equals
