"""What is done to heads before attention, in one dispatch: norms, rotation, writing cells.

A warp has a head of a row: of queries, which go to a place, or of keys or values, which go to the
pages of a layer, in a type that has no blocks.
"""

import numpy as np

from jitllm.kernels import formats
from jitllm.kernels.cache_types import NAMES
from jitllm.kernels.cuda._run import PAGE, n_rows, page_of, position_of, segment_of
from jitllm.kernels.gpu.vocabulary import (
    A,
    F,
    U,
    group_of_row,
    group_y,
    inline,
    lane,
    load_f32,
    sqrt,
    store_bf16,
    store_f16,
    store_f32,
    to_f32,
    warp,
    warp_sum,
)

THREADS = 128
HEADS = THREADS // 32
ZERO, ONE = np.float32(0), np.float32(1)
STORES = {"f32": store_f32, "f16": store_f16, "bf16": store_bf16}


def _turner(store, is_neox, is_normed):
    """Make f(x, w, angles, at, step, n, n_rot, magnitude, eps): as `norm`, then as `rope`.

    Of the n numbers at x; those that come of it go to `at` and on, `step` bytes apart.
    """

    @inline
    def factor_of(x, n, eps):
        total = ZERO
        if is_normed:
            for i in range(lane(), n, 32):
                v = load_f32(x + 4 * i)
                total += v * v
            return ONE / sqrt(warp_sum(total) / to_f32(n) + eps)
        return ONE

    @inline
    def number(x, w, factor, i):
        v = load_f32(x + 4 * i)
        return v * factor * load_f32(w + 4 * i) if is_normed else v

    @inline
    def turn(x, w, angles, at, step, n, n_rot, magnitude, eps):
        factor, half = factor_of(x, n, eps), n_rot >> 1
        for pair in range(lane(), half, 32):
            i, j = (pair, pair + half) if is_neox else (2 * pair, 2 * pair + 1)
            a, b = number(x, w, factor, i), number(x, w, factor, j)
            cosine = load_f32(angles + 8 * pair) * magnitude
            sine = load_f32(angles + 8 * pair + 4) * magnitude
            store(at + step * i, a * cosine - b * sine)
            store(at + step * j, a * sine + b * cosine)
        for i in range(n_rot + lane(), n, 32):
            store(at + step * i, number(x, w, factor, i))

    return turn


def rope_keep(keys, values, is_neox, is_normed):
    """Make the kernel for caches of the types at these places of `cache_types.NAMES`.

    `is_neox` and `angles` are those of `rope`. If `is_normed`, each head of queries and keys is
    divided by the root of its mean square and multiplied by w_q or w_k before.
    """
    size, value_size = (formats.get(NAMES[kind].upper()).block_bytes for kind in (keys, values))
    store_value = STORES[NAMES[values]]
    turn_query = _turner(store_f32, is_neox, is_normed)
    turn_key = _turner(STORES[NAMES[keys]], is_neox, is_normed)

    @inline
    def keep(v, at, n):
        for i in range(lane(), n, 32):
            store_value(at + value_size * i, load_f32(v + 4 * i))

    def kernel(
        run: A, q: A, k: A, v: A, y: A, pages: A, w_q: A, w_k: A, angles: A,
        ldq: U, ldk: U, ldv: U, ldy: U, n_heads: U, heads: U, dk: U, dv: U, n_rot: U,
        head_bytes: U, key_bytes: U, page_bytes: U, cache: U, n_caches: U, magnitude: F, eps: F,
    ):  # fmt: skip
        row, head = group_y(), group_of_row() * HEADS + warp()
        if row >= n_rows(run):
            return
        angles += 4 * row * n_rot
        if head < n_heads:
            x, at = q + 4 * (row * ldq + head * dk), y + 4 * (row * ldy + head * dk)
            turn_query(x, w_q, angles, at, 4, dk, n_rot, magnitude, eps)
            return
        head -= n_heads
        if head >= 2 * heads:
            return
        segment = segment_of(run, row)
        position = position_of(run, segment, row)
        page = page_of(run, segment, n_caches, cache, position >> 6, pages, page_bytes)
        cell = position & (PAGE - 1)
        if head < heads:
            x, at = k + 4 * (row * ldk + head * dk), page + head * head_bytes + size * cell
            turn_key(x, w_k, angles, at, size * PAGE, dk, n_rot, magnitude, eps)
            return
        head -= heads
        at = page + head * head_bytes + key_bytes + value_size * dv * cell
        keep(v + 4 * (row * ldv + head * dv), at, dv)

    return kernel
