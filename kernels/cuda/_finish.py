"""What becomes of the sums of matrix products before they are stored."""

import numpy as np

from jitllm.kernels.cuda._packed import ROWS
from jitllm.kernels.gpu import (
    divide_u32,
    inline,
    lane,
    load_f32,
    load_shared_f32,
    maximum,
    minimum,
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

ZERO = np.float32(0)


def finisher(biased, scaled, weighed, added):
    """Make fetch(row, out, expert, n, bias, residual, ldr) and finish(...), of an output.

    finish(total, terms, row, out, expert, y, ldy, scales, weights) stores y[row, out] =
    residual[row, out] + (total * scales[expert] * weights[row] + bias[expert * n + out]), of which
    parts may be missing, in this order; `terms` are what fetch returned, bias and residual. Strides
    are in floats; for heads, `out` counts through all of them.
    """

    @inline
    def fetch(row, out, expert, n, bias, residual, ldr):
        own = load_f32(bias + 4 * (expert * n + out)) if biased else ZERO
        return own, load_f32(residual + 4 * (row * ldr + out)) if added else ZERO

    @inline
    def finish(total, terms, row, out, expert, y, ldy, scales, weights):
        if scaled:
            total = total * load_f32(scales + 4 * expert)
        if weighed:
            total = total * load_f32(weights + 4 * row)
        if biased:
            total = total + terms[0]
        if added:
            total = terms[1] + total
        store_f32(y + 4 * (row * ldy + out), total)

    return fetch, finish


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
    def begin(terms, block, n, heads, first, count, expert, bias, residual, ldr):
        blocks = n + ROWS - 1 >> 4
        for i in unroll(rounds):
            at = (i * threads + thread()) % outputs
            own = minimum(block + at // per, heads * blocks - 1)
            head, row = divide_u32(own, blocks), first + at // ROWS % tile
            out = head * n + minimum((own - head * blocks) * ROWS + at % ROWS, n - 1)
            row = clamp(row, count)
            terms[2 * i], terms[2 * i + 1] = fetch(row, out, expert, n, bias, residual, ldr)

    @inline
    def write(sums, terms, block, n, heads, first, count, expert, y, ldy, scales, weights):
        room, blocks = join(sums), n + ROWS - 1 >> 4
        for i in unroll(rounds):
            at = i * threads + thread()
            own, row = block + at // per, first + at // ROWS % tile
            head, out = divide_u32(own, blocks), remainder_u32(own, blocks) * ROWS + at % ROWS
            if at < outputs and head < heads and out < n and row < count:
                added = (terms[2 * i], terms[2 * i + 1])
                finish(
                    total_of(room, at), added, row, head * n + out, expert, y, ldy, scales, weights
                )

    return begin, write, 2 * rounds
