"""What becomes of the sums of matrix products before they are stored."""

import numpy as np

from jitllm.kernels.cuda._packed import ROWS
from jitllm.kernels.gpu.vocabulary import (
    divide_u32,
    inline,
    lane,
    load_f32,
    load_shared_f32,
    maximum,
    minimum,
    registers_f32,
    remainder_u32,
    shared,
    shuffle_xor_f32,
    store_f32,
    store_shared_f32,
    sync_threads,
    thread,
    unroll,
    warp,
)

ZERO, ONE = np.float32(0), np.float32(1)


TERMS = 4  # of an output, see `finisher`


def finisher(biased, scaled, weighed, added):
    """Make fetch(row, out, expert, n, bias, scales, weights, residual, ldr) and finish(...).

    finish(total, terms, row, out, y, ldy) stores y[row, out] = residual[row, out] + (total *
    scales[expert] * weights[row] + bias[expert * n + out]), of which parts may be missing, in this
    order. `terms` are what fetch loads: since y may be the residual, no load can move before a
    store, so all of a thread's loads should come first. Strides are in floats; for heads, `out`
    counts through all of them.
    """

    @inline
    def fetch(row, out, expert, n, bias, scales, weights, residual, ldr):
        return (
            load_f32(scales + 4 * expert) if scaled else ONE,
            load_f32(weights + 4 * row) if weighed else ONE,
            load_f32(bias + 4 * (expert * n + out)) if biased else ZERO,
            load_f32(residual + 4 * (row * ldr + out)) if added else ZERO,
        )

    @inline
    def finish(total, terms, row, out, y, ldy):
        if scaled:
            total = total * terms[0]
        if weighed:
            total = total * terms[1]
        if biased:
            total = total + terms[2]
        if added:
            total = terms[3] + total
        store_f32(y + 4 * (row * ldy + out), total)

    return fetch, finish


def tile_finisher(n_outs, sum_at, fetch, finish):
    """Make write(sums, pair, rows, factors, ...): a thread's outputs of two rows of x.

    It has `n_outs` outputs of each, from `first` on; sum_at(2 * pair + i, j) says where the sum of
    row i and output j is. `rows` are numbers of rows, those that are not from 0 to count - 1 left
    out; `factors` are multiplied by their sums.
    """
    n_terms = TERMS * 2 * n_outs

    @inline
    def load(terms, rows, first, head, expert, n, count, bias, scales, weights, residual, ldr):
        for i in unroll(2):
            row = maximum(minimum(rows[i], count - 1), 0)
            for j in unroll(n_outs):
                out = head * n + minimum(first + j, n - 1)
                own = fetch(row, out, expert, n, bias, scales, weights, residual, ldr)
                for k in unroll(TERMS):
                    terms[TERMS * (n_outs * i + j) + k] = own[k]

    @inline
    def store(sums, terms, pair, i, row, factor, first, head, n, y, ldy):
        for j in unroll(n_outs):
            if first + j < n:
                at = TERMS * (n_outs * i + j)
                own = (terms[at], terms[at + 1], terms[at + 2], terms[at + 3])
                total = sums[sum_at(2 * pair + i, j)] * factor
                finish(total, own, row, head * n + first + j, y, ldy)

    @inline
    def write(
        sums, pair, rows, factors, first, head, expert, n, count, y, ldy, bias, scales, weights,
        residual, ldr,
    ):  # fmt: skip
        terms = registers_f32(n_terms)
        load(terms, rows, first, head, expert, n, count, bias, scales, weights, residual, ldr)
        for i in unroll(2):
            if 0 <= rows[i] < count:
                store(sums, terms, pair, i, rows[i], factors[i], first, head, n, y, ldy)

    return write


def row_joiner(tile, split, threads, rows_each):
    """Make join(sums) and total_of(room, i), for warps that have sums of 16 rows of W.

    A thread has `rows_each` of them, those of its place among 16 / rows_each threads, for each of
    `tile` rows of x; those of a warp that have the same are added, and stored where join says.
    total_of adds the sums of `split` warps, in ascending order, for the i-th of
    `threads` / 32 / split blocks of [tile][16] outputs.
    """
    room_bytes, n_sums, lanes = 4 * threads // 32 * tile * ROWS, tile * rows_each, ROWS // rows_each
    steps, per = (32 // lanes).bit_length() - 1, tile * ROWS

    @inline
    def join(sums):
        room, first = shared(room_bytes), rows_each * (lane() & lanes - 1)
        for i in unroll(n_sums):
            total = sums[i]
            for step in unroll(steps):
                total += shuffle_xor_f32(total, lanes << step)
            if lane() < lanes:
                at = warp() * per + i // rows_each * ROWS + first + i % rows_each
                store_shared_f32(room + 4 * at, total)
        sync_threads()
        return room

    @inline
    def total_of(room, i):
        total, at = ZERO, room + 4 * (i // per * split * per + i % per)
        for j in unroll(split):
            total += load_shared_f32(at + 4 * per * j)
        return total

    return join, total_of


def row_clamp(tile):
    """Make f(row, count): a row that is there; of one row at a time without waiting for `count`."""

    @inline
    def same(row, count):
        return row

    @inline
    def clamp(row, count):
        return maximum(minimum(row, count - 1), 0)

    return same if tile == 1 else clamp


def row_finisher(tile, split, threads, rows_each, fetch, finish):
    """Make begin(...) and write(...): outputs of sums, see `row_joiner` and `finisher`.

    begin loads what is added to a thread's outputs, which takes as long as a load of weights: it is
    called before these are waited for. `block` is the first one of the workgroup, `first` its first
    row of x.
    """
    join, total_of = row_joiner(tile, split, threads, rows_each)
    per, outputs, clamp = tile * ROWS, threads // 32 // split * tile * ROWS, row_clamp(tile)
    rounds = max(1, outputs // threads)

    @inline
    def begin(terms, block, n, heads, first, count, expert, bias, scales, weights, residual, ldr):
        blocks = n + ROWS - 1 >> 4
        for i in unroll(rounds):
            at = (i * threads + thread()) % outputs
            place = minimum(block + at // per, heads * blocks - 1)
            head, row = divide_u32(place, blocks), first + at // ROWS % tile
            out = head * n + minimum((place - head * blocks) * ROWS + at % ROWS, n - 1)
            row = clamp(row, count)
            own = fetch(row, out, expert, n, bias, scales, weights, residual, ldr)
            for j in unroll(TERMS):
                terms[TERMS * i + j] = own[j]

    @inline
    def write(sums, terms, block, n, heads, first, count, y, ldy):
        room, blocks = join(sums), n + ROWS - 1 >> 4
        for i in unroll(rounds):
            at = i * threads + thread()
            place, row = block + at // per, first + at // ROWS % tile
            head, out = divide_u32(place, blocks), remainder_u32(place, blocks) * ROWS + at % ROWS
            if at < outputs and head < heads and out < n and row < count:
                own = (
                    terms[TERMS * i], terms[TERMS * i + 1], terms[TERMS * i + 2],
                    terms[TERMS * i + 3],
                )  # fmt: skip
                finish(total_of(room, at), own, row, head * n + out, y, ldy)

    return begin, write, TERMS * rounds
