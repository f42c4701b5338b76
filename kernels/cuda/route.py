"""Choose k experts for a row and weigh them: one warp a row."""

import numpy as np

from jitllm.kernels.cuda._activations import softplus
from jitllm.kernels.gpu.vocabulary import (
    A,
    F,
    U,
    divide_u32,
    exp,
    group_y,
    inline,
    lane,
    load_f32,
    load_shared_f32,
    load_shared_i32,
    load_u32,
    maximum,
    minimum,
    shared,
    shuffle_i32,
    shuffle_xor_f32,
    shuffle_xor_i32,
    sigmoid,
    sqrt,
    store_f32,
    store_i32,
    store_shared_f32,
    store_shared_i32,
    sync_warp,
    to_f32,
    to_i32,
    unroll,
    warp_max,
    warp_sum,
)

THREADS = 32
SOFTMAX, SIGMOID, SQRT_SOFTPLUS, SOFTMAX_TOPK, SIGMOID_TOPK = range(5)  # gpu_ops.experts.GATINGS
MOST_GROUPS_BYTES = 4 * 64
ZERO, ONE = np.float32(0), np.float32(1)
NEVER, TAKEN = np.float32(-3e38), np.float32(-3.3e38)


@inline
def _softmax(logits, n):
    """Return what is subtracted from logits, and the sum of their exponentials."""
    top, total = NEVER, ZERO
    for e in range(lane(), n, THREADS):
        top = maximum(top, load_f32(logits + 4 * e))
    top = warp_max(top)
    for e in range(lane(), n, THREADS):
        total += exp(load_f32(logits + 4 * e) - top)
    return top, warp_sum(total)


def _scorer(gating, n, is_biased):
    """Make score(logits, bias, scores, ranks), which fills shared memory."""

    @inline
    def score(logits, bias, scores, ranks):
        top, total = _softmax(logits, n) if gating == SOFTMAX else (ZERO, ONE)
        for e in range(lane(), n, THREADS):
            x = load_f32(logits + 4 * e)
            if gating == SOFTMAX:
                x = exp(x - top) / total
            elif gating == SIGMOID:
                x = sigmoid(x)
            elif gating == SQRT_SOFTPLUS:
                x = sqrt(softplus(x))
            store_shared_f32(scores + 4 * e, x)
            store_shared_f32(ranks + 4 * e, x + load_f32(bias + 4 * e) if is_biased else x)
        sync_warp()

    return score


@inline
def _worth(ranks, start, stop):
    """Return the sum of the two best ranks of a group."""
    first = second = NEVER
    for e in range(start, stop):
        rank = load_shared_f32(ranks + 4 * e)
        if rank > first:
            first, second = rank, first
        elif rank > second:
            second = rank
    return first + second if stop - start > 1 else first


@inline
def _drop_groups(ranks, worths, n, n_group, kept):
    """Take all ranks from groups that are not among the `kept` best."""
    size = divide_u32(n, n_group)
    for g in range(lane(), n_group, THREADS):
        store_shared_f32(worths + 4 * g, _worth(ranks, g * size, g * size + size))
    sync_warp()
    for g in range(lane(), n_group, THREADS):
        own, better = load_shared_f32(worths + 4 * g), 0
        for o in range(n_group):
            other = load_shared_f32(worths + 4 * o)
            if other > own or (other == own and o < g):
                better += 1
        if better >= kept:
            for e in range(g * size, g * size + size):
                store_shared_f32(ranks + 4 * e, NEVER)
    sync_warp()


@inline
def _take_best(ranks, n):
    """Return the number of the best rank, of equals the lowest, and take it."""
    place = to_i32(minimum(lane(), n - 1))  # TAKEN is above -inf: it must be there too
    best = load_shared_f32(ranks + 4 * lane()) if lane() < n else TAKEN
    for e in range(lane() + THREADS, n, THREADS):
        rank = load_shared_f32(ranks + 4 * e)
        if rank > best:
            best, place = rank, to_i32(e)
    for i in unroll(5):
        other, at = shuffle_xor_f32(best, 16 >> i), shuffle_xor_i32(place, 16 >> i)
        if other > best or (other == best and at < place):
            best, place = other, at
    place = shuffle_i32(place, 0)  # lanes disagree where ranks are NaN
    sync_warp()
    if lane() == 0:
        store_shared_f32(ranks + 4 * place, TAKEN)
    sync_warp()
    return place


@inline
def _given(number, n):
    """Return the expert that a float32 numbers, 0 if it numbers none."""
    return to_i32(number) if ZERO <= number and number < to_f32(n) else to_i32(0)


def _weigher(gating, k, is_normed):
    """Make weigh(scores, picked, weights, norm_min, factor) for the experts that were picked."""

    @inline
    def weight_of(score, top):
        if gating == SOFTMAX_TOPK:
            return exp(score - top)
        if gating == SIGMOID_TOPK:
            return sigmoid(score)
        return score

    @inline
    def weigh(scores, picked, weights, norm_min, factor):
        top, total = NEVER, ZERO
        for j in range(lane(), k, THREADS):
            top = maximum(top, load_shared_f32(scores + 4 * load_shared_i32(picked + 4 * j)))
        top = warp_max(top)
        for j in range(lane(), k, THREADS):
            score = load_shared_f32(scores + 4 * load_shared_i32(picked + 4 * j))
            total += weight_of(score, top)
        total = warp_sum(total)
        by = total if gating == SOFTMAX_TOPK else ONE
        if is_normed:
            by = maximum(total, norm_min * by)
        for j in range(lane(), k, THREADS):
            score = load_shared_f32(scores + 4 * load_shared_i32(picked + 4 * j))
            store_f32(weights + 4 * j, weight_of(score, top) * (factor / by))

    return weigh


def route(gating, n_experts, k, is_normed, is_biased, is_chosen):
    """Make the choice of k experts; see `kernels.reference.top_k_experts`.

    With `is_chosen`, the numbers of experts are given and only weighed.
    """
    score, weigh = _scorer(gating, n_experts, is_biased), _weigher(gating, k, is_normed)
    all_bytes, picked_bytes = 4 * n_experts, 4 * k

    def kernel(
        rows: A, logits: A, bias: A, chosen: A, ids: A, weights: A,
        ldl: U, ldc: U, n_group: U, topk_group: U, per_group: U, norm_min: F, factor: F,
    ):  # fmt: skip
        row = group_y()
        if row >= load_u32(rows):
            return
        scores, ranks, picked = shared(all_bytes), shared(all_bytes), shared(picked_bytes)
        score(logits + 4 * row * ldl, bias, scores, ranks)
        if not is_chosen and n_group > 1:
            _drop_groups(ranks, shared(MOST_GROUPS_BYTES), n_experts, n_group, topk_group)
        for j in range(k):
            if is_chosen:
                best = _given(load_f32(chosen + 4 * (row * ldc + j)), n_experts)
            else:
                best = _take_best(ranks, n_experts)
            if lane() == 0:
                expert = to_i32(divide_u32(best, per_group))
                store_shared_i32(picked + 4 * j, expert)
                store_i32(ids + 4 * (row * k + j), expert)
        sync_warp()
        weigh(scores, picked, weights + 4 * row * k, norm_min, factor)

    return kernel
