"""Products of many rows with packed weights, y = x W^T, in float32 arithmetic.

For every format where results are to be exact, and for F32 and BF16. A workgroup makes 64 outputs
of `tokens` rows from 64 columns at a time, which it stages as float32: weights, unpacked once, as
[column][output], x as [column][row]. Of each column a thread then loads `tokens` / 8 weights and
four x, 16 bytes at a time, for `tokens` / 2 fma: three loads for 32 of them (64 rows), so that the
fma, 128 a clock and multiprocessor, are what takes the time.
"""

import numpy as np

from jitllm.kernels import formats, packed
from jitllm.kernels.cuda._finish import finisher, tile_finisher
from jitllm.kernels.cuda._float_products import code_value, float_of
from jitllm.kernels.cuda._packed import QUAD, ROWS, reader
from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    divide_u32,
    fma,
    group_of_row,
    group_y,
    inline,
    load_f32,
    load_i32,
    load_i32x2,
    load_shared_f32x4,
    load_u32,
    maximum,
    minimum,
    registers_f32,
    registers_i32,
    shared,
    store_shared_f32,
    store_shared_f32x4,
    stream_i32x4,
    sync_threads,
    thread,
    to_i32,
    unroll,
)

THREADS = 128
OUTPUTS, COLUMNS = 64, 64  # of a workgroup at a time
BLOCKS = OUTPUTS // ROWS
ROW_BYTES = 4 * OUTPUTS
LOADS = 8
ZERO, ONE = np.float32(0), np.float32(1)


def _stage_numbers(name):
    """Make stage(room, w, block, blocks, k, start): weights of a float format."""
    value_of, size = float_of(name), formats.get(name).block_bytes
    column_bytes, quads = packed.unit_bytes(name), OUTPUTS // QUAD
    step = THREADS // quads

    @inline
    def load(at):
        if size == 4:
            return stream_i32x4(at)
        a, b = load_i32x2(at)
        return a, b, a, b

    @inline
    def stage(room, w, block, blocks, k, start):
        own = thread() % quads
        row_block = minimum(block + (own >> 2), blocks - 1)
        at = w + row_block * (k * column_bytes) + QUAD * size * (own & 3)
        for column in range(thread() // quads, COLUMNS, step):
            words = load(at + minimum(start + column, k - 1) * column_bytes)
            store_shared_f32x4(
                room + ROW_BYTES * column + 16 * own,
                (value_of(words, 0), value_of(words, 1), value_of(words, 2), value_of(words, 3)),
            )

    return stage


def _stage_codes(name):
    """Make the same for a quantized format: a thread has chunks 2 t and 2 t + 1 of four rows."""
    fmt, group_reader = formats.get(name), reader(name)
    per_unit, unit_bytes = packed.unit_weights(fmt) // 32, packed.unit_bytes(name)
    load, n_words, parts = group_reader.load_pair, group_reader.pair_words, group_reader.parts
    pair, value_of, scale_of = group_reader.pair, code_value(fmt), group_reader.scale
    has_offset, offset_of = group_reader.offset is not None, group_reader.offset or scale_of

    @inline
    def own(of, r, row, t):
        x = of(r, 0, row)  # registers have no place that is known at run time alone
        if parts == 2 and t >= 2:
            x = of(r, 1, row)
        return x

    @inline
    def value(r, i, row, t, byte):
        x = own(scale_of, r, row, t) * value_of(pair(r, i, row, t), byte)
        return x + own(offset_of, r, row, t) if has_offset else x

    @inline
    def stage(room, w, block, blocks, k, start):
        t, quad, group = thread() & 3, thread() >> 2 & 3, (start >> 5) + (thread() >> 6)
        own = thread() >> 4 & BLOCKS - 1
        matrix = w + minimum(block + own, blocks - 1) * ((k >> 5) // per_unit * unit_bytes)
        r, group = registers_i32(n_words), minimum(group, (k >> 5) - 1)
        load(matrix + group // per_unit * unit_bytes, group & per_unit - 1, quad, t, r)
        room += ROW_BYTES * (32 * (thread() >> 6) + 8 * t) + 4 * (ROWS * own + QUAD * quad)
        for i in unroll(2):
            for byte in unroll(4):
                four = (
                    value(r, i, 0, t, byte), value(r, i, 1, t, byte),
                    value(r, i, 2, t, byte), value(r, i, 3, t, byte),
                )  # fmt: skip
                store_shared_f32x4(room + ROW_BYTES * (4 * i + byte), four)

    return stage


def _stage_x(tokens):
    """Make stage(room, x, k, start): a row's columns from `start` on, zero behind k."""
    parts = THREADS // tokens
    own_columns = COLUMNS // parts

    @inline
    def stage(room, x, k, start):
        row, first = thread() % tokens, thread() // tokens * own_columns
        for i in range(first, first + own_columns, LOADS):
            for j in unroll(LOADS):
                value = load_f32(x + 4 * minimum(start + i + j, k - 1))
                at = room + 4 * (tokens * (i + j) + row)
                store_shared_f32(at, value if start + i + j < k else ZERO)

    return stage


def _tile(tokens):
    """Make add(sums, weights, x): the products of staged columns."""
    wide, own = tokens // QUAD, tokens // 8
    quads, n_sums = own // QUAD, own * QUAD

    @inline
    def add_column(sums, weights, x):
        factors = load_shared_f32x4(x)
        for i in unroll(quads):
            w = load_shared_f32x4(weights + 16 * i)
            for j in unroll(16):
                at = 16 * i + j
                sums[at] = fma(w[j >> 2], factors[j & 3], sums[at])

    @inline
    def add(sums, weights, x):
        weights += 4 * own * (thread() // wide)
        x += 16 * (thread() % wide)
        for column in range(COLUMNS):
            add_column(sums, weights + ROW_BYTES * column, x + 4 * tokens * column)

    return add, n_sums, wide, own


@inline
def _sum_at(i, j):
    return QUAD * j + i


def matmul_float(tokens, routed, biased, scaled, weighed, added, *, fmt):
    """Make the kernel for `tokens` rows of x at a time: 32 or 64.

    Grid: (heads * ceil(n / 64), tiles). Tiles and parameters are those of `matmul`, but x is
    float32, its rows `ldx` floats apart.
    """
    make = _stage_numbers if formats.get(fmt).scales == "float" else _stage_codes
    stage_weights, stage_x = make(fmt), _stage_x(tokens)
    add, n_sums, wide, own = _tile(tokens)
    write = tile_finisher(own, _sum_at, *finisher(biased, scaled, weighed, added))
    per, unit_bytes = packed.unit_weights(formats.get(fmt)), packed.unit_bytes(fmt)
    room_bytes, x_bytes = ROW_BYTES * COLUMNS, 4 * tokens * COLUMNS

    def kernel(
        rows: A, w: A, x: A, y: A, bias: A, scales: A, weights: A, ids: A, tiles: A, residual: A,
        n: U, k: U, ldx: U, ldy: U, ldr: U, fan: U, heads: U,
    ):  # fmt: skip
        tile, count = group_y(), load_u32(rows)
        if (tile >= load_u32(tiles)) if routed else (tile * tokens >= count):
            return
        expert, blocks = load_u32(tiles + 4 + 4 * tile) if routed else 0, n + ROWS - 1 >> 4
        of_head = n + OUTPUTS - 1 >> 6
        head = divide_u32(group_of_row(), of_head)
        group = group_of_row() - head * of_head
        w += (expert * heads + head) * blocks * (k // per * unit_bytes)
        place = tile * tokens + thread() % tokens
        row = maximum(load_i32(ids + 4 * place), 0) if routed else minimum(place, count - 1)
        x += 4 * (divide_u32(row, fan) * ldx + head * k)
        room, x_room, sums = shared(room_bytes), shared(x_bytes), registers_f32(n_sums)
        for start in range(0, k, COLUMNS):
            stage_weights(room, w, BLOCKS * group, blocks, k, start)
            stage_x(x_room, x, k, start)
            sync_threads()
            add(sums, room, x_room)
            sync_threads()
        first = OUTPUTS * group + own * (thread() // wide)
        own_rows, factors = registers_i32(2), registers_f32(2)
        for two in unroll(QUAD // 2):
            for i in unroll(2):
                place = tile * tokens + QUAD * (thread() % wide) + 2 * two + i
                own_rows[i] = load_i32(ids + 4 * place) if routed else to_i32(place)
                factors[i] = ONE
            write(
                sums, two, own_rows, factors, first, head, expert, n, count, y, ldy, bias, scales,
                weights, residual, ldr,
            )  # fmt: skip

    return kernel
