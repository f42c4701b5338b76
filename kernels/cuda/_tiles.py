"""The frame of products on tensor cores: rows of W straight to registers, rows of x staged.

A warp makes 32 outputs of `tokens` rows, 32 columns at a time. Its weights come 16 bytes a thread,
to the registers where the tensor cores want them, since they may number columns and rows as they
like; the next 32 columns are on their way meanwhile. Rows of x pass through shared memory because
all warps of a workgroup read them: a thread copies 32 columns of a row, then all wait, once for 128
of such copies, of which there are two sets.
"""

import numpy as np

from jitllm.kernels import formats, packed
from jitllm.kernels.cuda._finish import finisher, row_clamp, tile_finisher
from jitllm.kernels.cuda._packed import QUAD, ROWS
from jitllm.kernels.cuda._words import least_u32
from jitllm.kernels.gpu.vocabulary import (
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
    to_i32,
    unroll,
    warp,
)

THREADS = 128
WARPS = THREADS // 32
WARP_ROWS = 2 * ROWS  # rows of W of a warp
ZERO = np.float32(0)


def _stager(code_bytes, head_bytes):
    """Make copies of a row's 32 columns: from memory to registers, and on to shared memory."""
    quads, first = code_bytes // 16, code_bytes // 4
    shift = 4 - quads.bit_length()

    @inline
    def quad(i):
        return 16 * (i ^ (lane() >> shift & (quads - 1)))  # so that lanes use all banks

    @inline
    def load(codes, head, r):
        for i in unroll(quads):
            a = load_i32x4(codes + quad(i))
            for j in unroll(4):
                r[4 * i + j] = a[j]
        if head_bytes:
            b = load_i32x2(head)
            r[first] = b[0]
            r[first + 1] = b[1]

    @inline
    def store(codes, head, r):
        for i in unroll(quads):
            at = 4 * i
            store_shared_i32x4(codes + quad(i), (r[at], r[at + 1], r[at + 2], r[at + 3]))
        if head_bytes:
            store_shared_i32x2(head, (r[first], r[first + 1]))

    return load, store, first + head_bytes // 4


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


@inline
def _sum_at(i, j):
    return (i >> 1) * 8 + 2 * j + (i & 1)


def tile_kernel(tokens, split, routed, biased, scaled, weighed, added, fmt, pieces):
    """Make the kernel that `matmul` documents; `pieces` are `Operands`."""
    write = tile_finisher(QUAD, _sum_at, *finisher(biased, scaled, weighed, added))
    load, multiply, factor, n_words = pieces.load, pieces.multiply, pieces.factor, pieces.words
    stage, n_sums, warps_wide = THREADS // tokens, tokens, WARPS // split
    clamp = row_clamp(tokens)
    code_bytes, head_bytes = pieces.code_bytes, pieces.head_bytes
    load_row, store_row, n_kept = _stager(code_bytes, head_bytes)
    join, codes_bytes, heads_bytes = (
        _joiner(split, n_sums), 2 * code_bytes * THREADS, max(2 * head_bytes * THREADS, 16),
    )  # fmt: skip
    per, unit_bytes = packed.unit_weights(formats.get(fmt)), packed.unit_bytes(fmt)

    def kernel(
        rows: A, w: A, x: A, y: A, bias: A, scales: A, weights: A, ids: A, tiles: A, residual: A,
        n: U, k: U, ldx: U, ldy: U, ldr: U, fan: U, heads: U,
    ):  # fmt: skip
        tile, count = group_y(), load_u32(rows)
        if (tile >= load_u32(tiles)) if routed else (tile * tokens >= count):
            return
        expert = load_u32(tiles + 4 + 4 * tile) if routed else 0
        x_rows, groups, blocks = divide_u32(count, fan), k + 31 >> 5, n + ROWS - 1 >> 4
        of_head = divide_u32((blocks + 1 >> 1) + warps_wide - 1, warps_wide)
        head = divide_u32(group_of_row(), of_head)
        pair = (group_of_row() - head * of_head) * warps_wide + warp() // split
        t, quad, half = lane() & 3, lane() >> 2 & 3, lane() >> 4
        block = minimum(2 * pair + half, blocks - 1)
        matrix = w + ((expert * heads + head) * blocks + block) * (k // per * unit_bytes)

        own, step = thread() & tokens - 1, thread() // tokens
        place = tile * tokens + own
        row = maximum(load_i32(ids + 4 * place), 0) if routed else minimum(place, count - 1)
        row = head * groups * x_rows + divide_u32(row, fan)
        heads_at = x + heads * groups * code_bytes * x_rows
        room, heads_room = shared(codes_bytes), shared(heads_bytes)

        sums, kept = registers_f32(n_sums), registers_i32(n_kept)
        r, ahead = registers_i32(n_words), registers_i32(n_words)
        group, side = warp() & split - 1, 0
        load(matrix, group, k, quad, t, ahead)
        at = row + least_u32(step, groups - 1) * x_rows
        load_row(x + code_bytes * at, heads_at + head_bytes * at, kept)
        for start in range(0, groups, stage):
            at = side * THREADS + thread()
            store_row(room + code_bytes * at, heads_room + head_bytes * at, kept)
            sync_threads()
            at = row + least_u32(start + stage + step, groups - 1) * x_rows
            load_row(x + code_bytes * at, heads_at + head_bytes * at, kept)
            end = least_u32(start + stage, groups)
            while group < end:
                for i in unroll(n_words):
                    r[i] = ahead[i]
                load(matrix, group + split, k, quad, t, ahead)
                at = side * THREADS + (group - start) * tokens
                multiply(sums, r, room + code_bytes * at, heads_room + head_bytes * at)
                group += split
            side ^= 1

        join(sums)
        if warp() & split - 1:
            return
        first = WARP_ROWS * pair + ROWS * half + QUAD * quad
        own_rows, factors = registers_i32(2), registers_f32(2)
        for two in unroll(tokens // 8):
            for i in unroll(2):
                place = tile * tokens + 8 * two + 2 * t + i
                own_rows[i] = load_i32(ids + 4 * place) if routed else to_i32(place)
                factors[i] = factor(heads_at, divide_u32(clamp(own_rows[i], count), fan))
            write(
                sums, two, own_rows, factors, first, head, expert, n, count, y, ldy, bias, scales,
                weights, residual, ldr,
            )  # fmt: skip

    kernel.groups = pieces.groups
    return kernel
