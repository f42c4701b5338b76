"""Products of many rows with packed weights, y = x W^T, on tensor cores, int8 times int8.

One step of a tensor core is 16 rows of W times 8 rows of x times a group of 32 columns: its sums
are exact integers, to be scaled before they are added to others. Data first: a warp makes 32
outputs of `tokens` rows; for a group it loads 512 bytes (4-bit codes), 16 bytes a thread, straight
to the registers where the tensor cores want them, since they may number columns and rows as they
like: a thread has chunks 2 t and 2 t + 1 of four rows. Rows of x pass through shared memory, 40
bytes a group, because all warps of a workgroup read them.

Scaling is what takes the time: a step is 4096 products in 4 clocks of a tensor core (H200), and
leaves each thread 4 sums for which it needs 12 instructions (16 with an offset); unpacking and
loading take about 80 for 2 `tokens` / 8 steps. So 64 rows take some 300 clocks a group where 64
would do for the tensor cores: 900 products a clock and multiprocessor, 400 T operations a second.
Sums become float32 without a conversion, which would take twice the time of an addition: they start
from the bits of 1.5 * 2^23.
"""

import numpy as np

from jitllm.kernels import formats, packed
from jitllm.kernels.cuda._finish import finisher
from jitllm.kernels.cuda._packed import QUAD, ROWS, reader
from jitllm.kernels.cuda._products import tile_product
from jitllm.kernels.gpu import (
    A,
    U,
    divide_u32,
    group_of_row,
    group_y,
    inline,
    lane,
    load_i32,
    load_i32x2,
    load_i32x4,
    load_shared_f32,
    load_u32,
    maximum,
    minimum,
    registers_f32,
    registers_i32,
    shared,
    store_shared_f32,
    store_shared_i32x2,
    store_shared_i32x4,
    sync_threads,
    thread,
    unroll,
    warp,
)

THREADS = 128
WARPS = THREADS // 32
WARP_ROWS = 2 * ROWS  # rows of W of a warp
CODE_BYTES, HEAD_BYTES = 32, 8
ZERO = np.float32(0)


def _stager():
    """Make copies of a row's 32 columns: from memory to registers, and on to shared memory."""

    @inline
    def load(codes, head, r):
        a, b, c = load_i32x4(codes), load_i32x4(codes + 16), load_i32x2(head)
        for i in unroll(4):
            r[i] = a[i]
            r[4 + i] = b[i]
        r[8] = c[0]
        r[9] = c[1]

    @inline
    def store(codes, head, r):
        store_shared_i32x4(codes, (r[0], r[1], r[2], r[3]))
        store_shared_i32x4(codes + 16, (r[4], r[5], r[6], r[7]))
        store_shared_i32x2(head, (r[8], r[9]))

    return load, store


def _joiner(split, n_sums):
    """Make f(sums): the first of `split` warps gets the sums of all, in their order."""
    room_bytes = 4 * THREADS * n_sums

    @inline
    def nothing(sums):
        pass

    @inline
    def join(sums):
        room = shared(room_bytes)
        for i in unroll(n_sums):
            store_shared_f32(room + 4 * (THREADS * i + thread()), sums[i])
        sync_threads()
        for i in unroll(n_sums):
            total = sums[i]
            for j in unroll(split - 1):
                at = THREADS * i + (thread() + 32 * (j + 1) & THREADS - 1)
                total += load_shared_f32(room + 4 * at)
            sums[i] = total

    return join if split > 1 else nothing


def matmul(tokens, split, routed, biased, scaled, weighed, added, *, fmt):
    """Make the kernel for `tokens` rows of x at a time: 8, 16, 32 or 64.

    `split` warps (1, 2, 4; at most 128 / tokens, and 1 if that is 2) share 32 outputs, and have K's
    groups of 32 columns in turn. Grid: (heads * ceil(ceil(n / 32) / (4 / split)), tiles), where
    tiles are ceil(rows / tokens) or, if `routed`, as many as `group_rows` may make.

    Parameters of the kernel are those of `matvec`, but for

    ids         if `routed`: int32 [tiles][tokens], the rows of a tile, -1 where there is none
    tiles       if `routed`: int32, the number of tiles, then the expert of each
    """
    group_reader, per_unit = reader(fmt), packed.unit_weights(formats.get(fmt)) // 32
    load, n_words, unit_bytes = (
        group_reader.load_pair, group_reader.pair_words, packed.unit_bytes(fmt),
    )  # fmt: skip
    multiply, finish = (
        tile_product(fmt, group_reader, tokens),
        finisher(biased, scaled, weighed, added),
    )
    stage, n_sums, warps_wide = THREADS // tokens, tokens, WARPS // split
    load_row, store_row = _stager()
    join = _joiner(split, n_sums)
    codes_bytes, heads_bytes = 2 * CODE_BYTES * THREADS, 2 * HEAD_BYTES * THREADS

    def kernel(
        rows: A, w: A, x: A, y: A, bias: A, scales: A, weights: A, ids: A, tiles: A, residual: A,
        n: U, k: U, ldx: U, ldy: U, ldr: U, fan: U, heads: U,
    ):  # fmt: skip
        tile, count = group_y(), load_u32(rows)
        if (tile >= load_u32(tiles)) if routed else (tile * tokens >= count):
            return
        expert = load_u32(tiles + 4 + 4 * tile) if routed else 0
        x_rows, groups, blocks = divide_u32(count, fan), k >> 5, n + ROWS - 1 >> 4
        of_head = divide_u32((blocks + 1 >> 1) + warps_wide - 1, warps_wide)
        head = divide_u32(group_of_row(), of_head)
        pair = (group_of_row() - head * of_head) * warps_wide + warp() // split
        t, quad, half = lane() & 3, lane() >> 2 & 3, lane() >> 4
        block = minimum(2 * pair + half, blocks - 1)
        matrix = w + ((expert * heads + head) * blocks + block) * (groups // per_unit * unit_bytes)

        own, step = thread() & tokens - 1, thread() // tokens
        place = tile * tokens + own
        row = maximum(load_i32(ids + 4 * place), 0) if routed else minimum(place, count - 1)
        row = head * groups * x_rows + divide_u32(row, fan)
        heads_at = x + heads * groups * CODE_BYTES * x_rows
        room, heads_room = shared(codes_bytes), shared(heads_bytes)

        sums, kept = registers_f32(n_sums), registers_i32(10)
        r, ahead = registers_i32(n_words), registers_i32(n_words)
        group, side = warp() & split - 1, 0
        at = minimum(group, groups - 1)
        load(matrix + at // per_unit * unit_bytes, at & per_unit - 1, quad, t, ahead)
        at = row + minimum(step, groups - 1) * x_rows
        load_row(x + CODE_BYTES * at, heads_at + HEAD_BYTES * at, kept)
        for start in range(0, groups, stage):
            at = side * THREADS + thread()
            store_row(room + CODE_BYTES * at, heads_room + HEAD_BYTES * at, kept)
            sync_threads()
            at = row + minimum(start + stage + step, groups - 1) * x_rows
            load_row(x + CODE_BYTES * at, heads_at + HEAD_BYTES * at, kept)
            while group < minimum(start + stage, groups):
                for i in unroll(n_words):
                    r[i] = ahead[i]
                at = minimum(group + split, groups - 1)
                load(matrix + at // per_unit * unit_bytes, at & per_unit - 1, quad, t, ahead)
                at = side * THREADS + (group - start) * tokens
                multiply(sums, r, room + CODE_BYTES * at, heads_room + HEAD_BYTES * at)
                group += split
            side ^= 1

        join(sums)
        if warp() & split - 1:
            return
        first = WARP_ROWS * pair + ROWS * half + QUAD * quad
        for i in unroll(n_sums // QUAD):
            place = tile * tokens + (i >> 1) * 8 + 2 * t + (i & 1)
            row = load_i32(ids + 4 * place) if routed else place
            for j in unroll(QUAD):
                if 0 <= row < count and first + j < n:
                    finish(
                        sums[(i >> 1) * 8 + 2 * j + (i & 1)], row, head * n + first + j, expert, n,
                        y, ldy, bias, scales, weights, residual, ldr,
                    )  # fmt: skip

    return kernel
