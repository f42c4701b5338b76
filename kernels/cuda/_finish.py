"""What becomes of the sums of matrix products before they are stored."""

import numpy as np

from jitllm.kernels.cuda._packed import ROWS
from jitllm.kernels.gpu import (
    divide_u32,
    inline,
    lane,
    load_f32,
    load_shared_f32,
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
    """Make f(total, row, out, expert, n, y, ldy, bias, scales, weights, residual, ldr).

    It stores y[row, out] = residual[row, out] + (total * scales[expert] * weights[row]
    + bias[expert * n + out]), of which parts may be missing, in this order. Strides are in floats;
    for heads, `out` counts through all of them.
    """

    @inline
    def finish(total, row, out, expert, n, y, ldy, bias, scales, weights, residual, ldr):
        if scaled:
            total = total * load_f32(scales + 4 * expert)
        if weighed:
            total = total * load_f32(weights + 4 * row)
        if biased:
            total = total + load_f32(bias + 4 * (expert * n + out))
        if added:
            total = load_f32(residual + 4 * (row * ldr + out)) + total
        store_f32(y + 4 * (row * ldy + out), total)

    return finish


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


def row_finisher(tile, split, threads, rows_each, finish):
    """Make f(sums, block, n, heads, first, count, expert, ...): outputs of sums, see `row_joiner`.

    `block` is the first one of the workgroup, `first` its first row of x; `finish` is of
    `finisher`, whose arguments from y on come last.
    """
    join, total_of = row_joiner(tile, split, threads, rows_each)
    outputs = threads // 32 // split * tile * ROWS

    @inline
    def write(
        sums, block, n, heads, first, count, expert, y, ldy, bias, scales, weights, residual, ldr
    ):
        room, blocks = join(sums), n + ROWS - 1 >> 4
        for i in range(thread(), outputs, threads):
            own, row = block + i // (tile * ROWS), first + i // ROWS % tile
            head, out = divide_u32(own, blocks), remainder_u32(own, blocks) * ROWS + i % ROWS
            if head < heads and out < n and row < count:
                finish(
                    total_of(room, i), row, head * n + out, expert, n,
                    y, ldy, bias, scales, weights, residual, ldr,
                )  # fmt: skip

    return write
