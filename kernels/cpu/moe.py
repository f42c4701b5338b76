"""Routing of mixtures of experts: scores of all experts, the best k and their weights.

One row reads n_experts floats and scans them k times, a few microseconds; the products with the
chosen experts are orders of magnitude more.
"""

import numpy as np

from jitllm.kernels import abi
from jitllm.kernels.cpu import vmath
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.rows import next_rows
from jitllm.kernels.cpu.softplus import softplus
from jitllm.kernels.cpu.vmath import ZERO, fill_part, first_f32, keep_part, load_part
from jitllm.kernels.simd import (
    load_f32,
    load_f32x16,
    load_i64,
    load_u8,
    reduce_add,
    reduce_max,
    splat_f32,
    sqrt,
    stack_bytes,
    store_f32,
    store_f32x16,
    store_i32,
    store_u8,
    vmax,
)

MAX_EXPERTS = 4096  # what the stack of one call holds
LOWEST = np.float32(-3.4028235e38)


@inline
def _copy_scores(logits, n, scores):
    for i in range(0, n, 16):
        store_f32x16(scores + 4 * i, load_part(logits + 4 * i, n - i))


@inline
def _sigmoid_scores(logits, n, scores):
    for i in range(0, n, 16):
        store_f32x16(scores + 4 * i, vmath.sigmoid(load_part(logits + 4 * i, n - i)))


@inline
def _sqrt_softplus_scores(logits, n, scores):
    for i in range(0, n, 16):
        store_f32x16(scores + 4 * i, sqrt(softplus(load_part(logits + 4 * i, n - i))))


@inline
def _softmax_scores(logits, n, scores):
    top = splat_f32(LOWEST)
    for i in range(0, n, 16):
        x = fill_part(load_part(logits + 4 * i, n - i), n - i, splat_f32(LOWEST))
        top = vmax(top, x)
        store_f32x16(scores + 4 * i, x)
    m, total = splat_f32(reduce_max(top)), splat_f32(ZERO)
    for i in range(0, n, 16):
        e = vmath.exp(load_f32x16(scores + 4 * i) - m)
        store_f32x16(scores + 4 * i, e)
        total = total + keep_part(e, n - i)
    total = splat_f32(reduce_add(total))
    for i in range(0, n, 16):
        store_f32x16(scores + 4 * i, load_f32x16(scores + 4 * i) / total)


@inline
def _choose(scores, bias, n, taken):
    """Return the expert with the largest score + bias not yet taken, the lowest of equals."""
    best, chosen = LOWEST, -1
    for e in range(n):
        if load_u8(taken + e) == 0:
            value = load_f32(scores + 4 * e)
            if bias != 0:
                value = value + load_f32(bias + 4 * e)
            if chosen < 0 or value > best:
                best, chosen = value, e
    store_u8(taken + chosen, 1)
    return chosen


@inline
def _take_best_groups(scores, bias, n, taken, n_group, topk_group):
    """Take all experts but those of the groups whose two best scores + bias have the top sums."""
    sums, best = stack_bytes(16384), stack_bytes(4096)
    size = n // n_group
    for g in range(n_group):
        first, second = LOWEST, LOWEST
        for e in range(g * size, g * size + size):
            value = load_f32(scores + 4 * e)
            if bias != 0:
                value = value + load_f32(bias + 4 * e)
            if value > first:
                first, second = value, first
            elif value > second:
                second = value
        store_f32(sums + 4 * g, first + second if size > 1 else first)
        store_u8(best + g, 0)
    for _ in range(topk_group):
        _choose(sums, 0, n_group, best)
    for e in range(n):
        store_u8(taken + e, 1 - load_u8(best + e // size))


@inline
def _number(chosen, n):
    """Return the expert number that stands at `chosen` as float32; 0 where there is no such."""
    value = load_f32(chosen)
    if value >= 0 and value < n:
        return int(value)
    return 0


@inline
def _keep_weights(weights, k):
    pass


@inline
def _sigmoid_weights(weights, k):
    for i in range(k):
        at = weights + 4 * i
        store_f32(at, first_f32(vmath.sigmoid(splat_f32(load_f32(at)))))


@inline
def _softmax_weights(weights, k):
    top = load_f32(weights)
    for i in range(1, k):
        top = max(top, load_f32(weights + 4 * i))
    total = ZERO
    for i in range(k):
        e = first_f32(vmath.exp(splat_f32(load_f32(weights + 4 * i)) - splat_f32(top)))
        store_f32(weights + 4 * i, e)
        total = total + e
    for i in range(k):
        store_f32(weights + 4 * i, load_f32(weights + 4 * i) / total)


@inline
def _normalise(weights, k, norm_min):
    total = ZERO
    for i in range(k):
        total = total + load_f32(weights + 4 * i)
    total = max(total, norm_min)
    for i in range(k):
        store_f32(weights + 4 * i, load_f32(weights + 4 * i) / total)


GATINGS = {
    "softmax": (_softmax_scores, _keep_weights),
    "sigmoid": (_sigmoid_scores, _keep_weights),
    "sqrt_softplus": (_sqrt_softplus_scores, _keep_weights),
    "softmax_topk": (_copy_scores, _softmax_weights),
    "sigmoid_topk": (_copy_scores, _sigmoid_weights),
}


def top_k_experts(*, gating, norm):
    """Make the routing kernel (`abi.TOP_K_EXPERTS`), for up to MAX_EXPERTS experts.

    Parameters
    ----------
    gating : str
        "softmax", "sigmoid" and "sqrt_softplus" score before the choice, "softmax_topk" and
        "sigmoid_topk" only the chosen logits.
    norm : bool
        Whether weights are divided by their sum (or norm_min if larger).
    """
    if gating not in GATINGS:
        raise ValueError(f"gating must be one of {sorted(GATINGS)}, got {gating!r}")
    score, weigh = GATINGS[gating]

    def kernel(args, thread, n_threads, counter):
        n_rows = load_i64(load_i64(args) + 8 * abi.N_TOKENS)
        logits, ldl, bias = load_i64(args + 8), load_i64(args + 16), load_i64(args + 24)
        n, k, ids, weights = (load_i64(args + 32), load_i64(args + 40), load_i64(args + 48),
                              load_i64(args + 56))  # fmt: skip
        factor, norm_min = load_f32(args + 64), load_f32(args + 72)
        n_group, topk_group = load_i64(args + 80), load_i64(args + 88)
        per_group, given, ldc = load_i64(args + 96), load_i64(args + 104), load_i64(args + 112)
        scores, taken = stack_bytes(16384), stack_bytes(4096)
        row, end = next_rows(counter, n_rows, n)
        while row < end:
            for r in range(row, end):
                score(logits + r * ldl, n, scores)
                if n_group > 1:
                    _take_best_groups(scores, bias, n, taken, n_group, topk_group)
                else:
                    for e in range(n):
                        store_u8(taken + e, 0)
                for i in range(k):
                    if given != 0:
                        chosen = _number(given + r * ldc + 4 * i, n)
                    else:
                        chosen = _choose(scores, bias, n, taken)
                    chosen = chosen // per_group
                    store_i32(ids + 4 * (r * k + i), chosen)
                    store_f32(weights + 4 * (r * k + i), load_f32(scores + 4 * chosen))
                weigh(weights + 4 * r * k, k)
                if norm:
                    _normalise(weights + 4 * r * k, k, norm_min)
                for i in range(k):
                    at = weights + 4 * (r * k + i)
                    store_f32(at, load_f32(at) * factor)
            row, end = next_rows(counter, n_rows, n)

    return kernel
