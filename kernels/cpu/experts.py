"""Mixture of experts: sort token-expert pairs into slots, multiply slot by slot, add up.

Slots of one expert stand together and fill whole tiles of `tile_rows` rows (the rest of its last
tile is unused), so that expert products are the dense ones of `matmul` and `matmul_float` on row
ranges, with the same bits. A run of one token makes tiles of one row.
"""

import numpy as np

from jitllm.kernels import abi, formats, packed
from jitllm.kernels import level as levels
from jitllm.kernels.atomics import atomic_add
from jitllm.kernels.cpu.inline import helper, inline
from jitllm.kernels.cpu.matmul import (
    block_span,
    byte_block_bytes,
    tile_product,
    unpacker,
    vector_product,
)
from jitllm.kernels.cpu.matmul_float import SPAN, span_adder
from jitllm.kernels.cpu.tile import take
from jitllm.kernels.cpu.weights import value_writer
from jitllm.kernels.simd import (
    fma,
    load_f32,
    load_f32x16,
    load_i32,
    load_i64,
    splat_f32,
    stack_bytes,
    store_f32x16,
    store_i32,
    store_i64,
)

ROWS, RECORD = packed.ROWS, packed.RECORD_BYTES_PER_ROW
ONE = np.float32(1)


def route(*, tile_rows: int):
    """Return the kernel of `abi.ROUTE` for tiles of `tile_rows` rows; one thread does it."""

    @helper
    def place(args, expert, slot, n, k, rows):
        """Give slots to the pairs of one expert; returns the next free slot."""
        ids, index, tile_experts, slot_of = (
            load_i64(args + 8), load_i64(args + 32), load_i64(args + 40), load_i64(args + 48),
        )  # fmt: skip
        first = slot
        for pair in range(n * k):
            if load_i32(ids + 4 * pair) == expert:
                store_i32(index + 4 * slot, pair // k)
                store_i32(slot_of + 4 * pair, slot)
                slot += 1
        while slot % rows != 0:
            store_i32(index + 4 * slot, -1)
            slot += 1
        for tile in range(first // rows, slot // rows):
            store_i32(tile_experts + 4 * tile, expert)
        return slot

    def route_pairs(args, thread, n_threads, counter):
        if atomic_add(counter, 1) == 0:
            run = load_i64(args)
            n = load_i64(run + 8 * abi.N_TOKENS)
            n_experts, k = load_i64(args + 16), load_i64(args + 24)
            slot = 0
            for expert in range(n_experts):
                slot = place(args, expert, slot, n, k, 1 if n == 1 else tile_rows)
            store_i64(run + 8 * abi.N_SLOTS, slot)

    return route_pairs


def gather(args, thread, n_threads, counter):
    """y[slot] = x[index[slot]], zero where the index is -1 (`abi.GATHER`)."""
    n = load_i64(load_i64(args) + 8 * abi.N_SLOTS)
    x, ldx, index = load_i64(args + 8), load_i64(args + 16), load_i64(args + 24)
    y, ldy, width = load_i64(args + 32), load_i64(args + 40), load_i64(args + 48)
    slot = atomic_add(counter, 1)
    while slot < n:
        row = load_i32(index + 4 * slot)
        for i in range(0, 4 * width, 64):
            value = splat_f32(0.0) if row < 0 else load_f32x16(x + row * ldx + i)
            store_f32x16(y + slot * ldy + i, value)
        slot = atomic_add(counter, 1)


def weigh(args, thread, n_threads, counter):
    """y[slot_of[t, j]] *= weights[t, j] (`abi.WEIGH`)."""
    n = load_i64(load_i64(args) + 8 * abi.N_TOKENS)
    slot_of, weights, k = load_i64(args + 8), load_i64(args + 16), load_i64(args + 24)
    y, ldy, width = load_i64(args + 32), load_i64(args + 40), load_i64(args + 48)
    pair = atomic_add(counter, 1)
    while pair < n * k:
        row = y + load_i32(slot_of + 4 * pair) * ldy
        weight = splat_f32(load_f32(weights + 4 * pair))
        for i in range(0, 4 * width, 64):
            store_f32x16(row + i, load_f32x16(row + i) * weight)
        pair = atomic_add(counter, 1)


def combine(args, thread, n_threads, counter):
    """y[t] = sum over j of weights[t, j] * x[slot_of[t, j]], j ascending (`abi.COMBINE`)."""
    n = load_i64(load_i64(args) + 8 * abi.N_TOKENS)
    x, ldx, slot_of, weights = (
        load_i64(args + 8), load_i64(args + 16), load_i64(args + 24), load_i64(args + 32),
    )  # fmt: skip
    k, y, ldy, width = (
        load_i64(args + 40), load_i64(args + 48), load_i64(args + 56), load_i64(args + 64),
    )  # fmt: skip
    row = atomic_add(counter, 1)
    while row < n:
        for i in range(0, 4 * width, 64):
            total = splat_f32(0.0)
            for j in range(row * k, row * k + k):
                value = load_f32x16(x + load_i32(slot_of + 4 * j) * ldx + i)
                weight = load_f32(weights + 4 * j) if weights != 0 else ONE
                total = fma(splat_f32(weight), value, total)
            store_f32x16(y + row * ldy + i, total)
        row = atomic_add(counter, 1)


@helper
def _group_end(tile_experts, tile, tiles):
    """Return the first tile after `tile` that belongs to another expert."""
    expert = load_i32(tile_experts + 4 * tile)
    while tile < tiles and load_i32(tile_experts + 4 * tile) == expert:
        tile += 1
    return tile


@inline
def _finish(total, y, row, scale, bias):
    total = total * splat_f32(scale)
    if bias != 0:
        total = total + load_f32x16(bias + 4 * row)
    store_f32x16(y + 4 * row, total)


@inline
def _bias_of(biases, expert, width):
    if biases != 0:
        return biases + expert * ((width + ROWS - 1) // ROWS * ROWS * 4)
    return 0


@inline
def _scale_of(scales, expert):
    if scales != 0:
        return load_f32(scales + 4 * expert)
    return 1.0


def matmul(*, fmt: str):
    """Return the kernel of `abi.EXPERT_MATMUL` for weights of a quantized format."""
    m, n = levels.current().tile
    vectors, tiles_of, unpack = vector_product(fmt), tile_product(fmt, m, n), unpacker(fmt)
    unit, per_unit = packed.unit_bytes(fmt), packed.unit_weights(formats.get(fmt))
    size, tile_bytes = byte_block_bytes(formats.get(fmt)), 64 * m * n

    @helper
    def one_token(args, slots, n_threads, counter):
        weights, width, k, x = (
            load_i64(args + 8), load_i64(args + 16), load_i64(args + 24), load_i64(args + 32),
        )  # fmt: skip
        y, ldy, experts = load_i64(args + 40), load_i64(args + 48), load_i64(args + 56)
        scales, matrix_bytes, biases = (
            load_i64(args + 64), load_i64(args + 72), load_i64(args + 96),
        )  # fmt: skip
        blocks, block_bytes = (width + ROWS - 1) // ROWS, k // per_unit * unit
        item = atomic_add(counter, 1)
        while item < slots * blocks:
            slot, block = item // blocks, item % blocks
            expert = load_i32(experts + 4 * slot)
            matrix = weights + expert * matrix_bytes
            acc = vectors(matrix + block * block_bytes, x + slot * (k // 32) * RECORD, k)
            scale, bias = _scale_of(scales, expert), _bias_of(biases, expert, width)
            _finish(take(acc, 0), y + slot * ldy, block * ROWS, scale, bias)
            item = atomic_add(counter, 1)

    @helper
    def group(args, expert, first, stop, start, end, scratch, tile):
        """Multiply row blocks start..end of one expert by its tiles first..stop."""
        weights, k, x = load_i64(args + 8), load_i64(args + 24), load_i64(args + 32)
        y, ldy, scales = load_i64(args + 40), load_i64(args + 48), load_i64(args + 64)
        matrix, stride = weights + expert * load_i64(args + 72), k // 32 * size
        scale = _scale_of(scales, expert)
        bias = _bias_of(load_i64(args + 96), expert, load_i64(args + 16))
        for block in range(start, end):
            source = matrix + block * (k // per_unit * unit)
            unpack(source, scratch + (block - start) * stride, k)
        for t in range(first, stop):
            for block in range(start, end, m):
                here = min(m, end - block)
                step = stride if here == m else 0
                records = x + t * n * (k // 32) * RECORD
                tiles_of(scratch + (block - start) * stride, step, records, k, tile)
                for i in range(here):
                    for j in range(n):
                        value = load_f32x16(tile + 64 * (i * n + j))
                        _finish(value, y + (t * n + j) * ldy, (block + i) * ROWS, scale, bias)

    @helper
    def many_tokens(args, slots, scratch, n_threads, counter):
        width, k, experts = load_i64(args + 16), load_i64(args + 24), load_i64(args + 56)
        tile, blocks = stack_bytes(tile_bytes), (width + ROWS - 1) // ROWS
        span = block_span(blocks, k // 32 * size, n_threads)
        start = atomic_add(counter, span)
        while start < blocks:
            first = 0
            while first * n < slots:
                stop = _group_end(experts, first, slots // n)
                expert = load_i32(experts + 4 * first)
                group(args, expert, first, stop, start, min(start + span, blocks), scratch, tile)
                first = stop
            start = atomic_add(counter, span)

    def matmul_experts(args, thread, n_threads, counter):
        run = load_i64(args)
        slots = load_i64(run + 8 * abi.N_SLOTS)
        if load_i64(run + 8 * abi.N_TOKENS) == 1:
            one_token(args, slots, n_threads, counter)
        else:
            scratch = load_i64(args + 80) + thread * load_i64(args + 88)
            many_tokens(args, slots, scratch, n_threads, counter)

    return matmul_experts


def matmul_float(*, fmt: str, tile_rows: int):
    """Return the kernel of `abi.EXPERT_MATMUL_FLOAT` for weights of any format."""
    write, add_span = value_writer(fmt), span_adder()
    unit, per_unit = packed.unit_bytes(fmt), packed.unit_weights(formats.get(fmt))

    @helper
    def group(args, expert, first, stop, block, scratch):
        """Multiply one row block of one expert by slots first..stop."""
        k, x, ldx = load_i64(args + 24), load_i64(args + 32), load_i64(args + 40)
        y, ldy = load_i64(args + 48), load_i64(args + 56)
        source = load_i64(args + 8) + expert * load_i64(args + 80) + block * (k // per_unit * unit)
        sums, rows = scratch + 64 * SPAN, stop - first
        for row in range(rows):
            store_f32x16(sums + 64 * row, splat_f32(0.0))
        for start in range(0, k, SPAN):
            columns = min(SPAN, k - start)
            write(source, scratch, start, columns)
            add_span(scratch, sums, x + first * ldx + 4 * start, ldx, columns, rows)
        scale = _scale_of(load_i64(args + 72), expert)
        bias = _bias_of(load_i64(args + 104), expert, load_i64(args + 16))
        for row in range(rows):
            total = load_f32x16(sums + 64 * row)
            _finish(total, y + (first + row) * ldy, block * ROWS, scale, bias)

    def matmul_experts(args, thread, n_threads, counter):
        run = load_i64(args)
        rows = 1 if load_i64(run + 8 * abi.N_TOKENS) == 1 else tile_rows
        tiles, experts = load_i64(run + 8 * abi.N_SLOTS) // rows, load_i64(args + 64)
        scratch = load_i64(args + 88) + thread * load_i64(args + 96)
        blocks = (load_i64(args + 16) + ROWS - 1) // ROWS
        block = atomic_add(counter, 1)
        while block < blocks:
            first = 0
            while first < tiles:
                stop = _group_end(experts, first, tiles)
                group(
                    args, load_i32(experts + 4 * first), first * rows, stop * rows, block, scratch
                )
                first = stop
            block = atomic_add(counter, 1)

    return matmul_experts
