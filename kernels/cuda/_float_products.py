"""Packed weights of every format times float32 activations: rows of W in registers, K walked.

Makers return walk(sums, matrix, k, x, ldx, rows), which adds to `sums`, [tile][rows of a thread],
the products of 16 rows of W at `matrix` with the rows `rows` (registers) of x, whose rows lie `ldx`
floats apart. Of `split` warps each has a part of K.
"""

import numpy as np

from jitllm.kernels import formats, packed
from jitllm.kernels.cuda._packed import QUAD, ROWS, reader
from jitllm.kernels.cuda._words import least_u32
from jitllm.kernels.gpu.vocabulary import (
    as_f32,
    fma,
    high_f16,
    inline,
    lane,
    load_f32,
    low_f16,
    registers_f32,
    registers_i32,
    stream_i32x4,
    to_f32,
    to_i32,
    unroll,
    warp,
)

LOADS = 4  # of 16 bytes, at once
GROUPS = 8  # of 32 columns, that a warp reads at a time
ZERO = np.float32(0)


def rows_each(name):
    """Return how many of 16 rows of W a thread has."""
    fmt = formats.get(name)
    return 16 // fmt.block_bytes if fmt.scales == "float" else QUAD


def walker(name, tile, split):
    """Return the walk of a format for `tile` rows of x."""
    make = _plain if formats.get(name).scales == "float" else _coded
    return make(name, tile, split)


def float_of(name):
    """Return f(words, i): number i of the 16 bytes that are four words."""

    @inline
    def single(words, i):
        return as_f32(words[i])

    @inline
    def half(words, i):
        return high_f16(words[i >> 1]) if i & 1 else low_f16(words[i >> 1])

    @inline
    def brain(words, i):
        word = words[i >> 1]
        return as_f32(to_i32(word & 0xFFFF0000 if i & 1 else word << 16))

    return {"F32": single, "F16": half, "BF16": brain}[name]


def _plain(name, tile, split):
    """A load is some rows of one column; the columns of a warp's load lie together.

    The next loads are on their way while these are multiplied. Columns behind the last are the
    last, times zero.
    """
    value_of, own, column_bytes = float_of(name), rows_each(name), packed.unit_bytes(name)
    lanes = ROWS // own
    wide = 32 // lanes
    step, n_words = LOADS * wide, 4 * LOADS

    @inline
    def load(matrix, column, k, r):
        for i in unroll(LOADS):
            at = least_u32(column + wide * i, k - 1) * column_bytes
            words = stream_i32x4(matrix + at)
            for j in unroll(4):
                r[4 * i + j] = words[j]

    @inline
    def add(sums, r, i, column, k, x, ldx, rows):
        words = (r[4 * i], r[4 * i + 1], r[4 * i + 2], r[4 * i + 3])
        at = least_u32(column, k - 1)
        for t in unroll(tile):
            factor = load_f32(x + 4 * (rows[t] * ldx + at)) if column < k else ZERO
            for j in unroll(own):
                sums[own * t + j] = fma(value_of(words, j), factor, sums[own * t + j])

    @inline
    def walk(sums, matrix, k, x, ldx, rows):
        r, ahead = registers_i32(n_words), registers_i32(n_words)
        matrix += 16 * (lane() & lanes - 1)
        column = (warp() & split - 1) * step + lane() // lanes
        load(matrix, column, k, ahead)
        while True:
            for i in unroll(n_words):
                r[i] = ahead[i]
            load(matrix, column + split * step, k, ahead)
            for i in unroll(LOADS):
                add(sums, r, i, column + wide * i, k, x, ldx, rows)
            column += split * step
            if column >= k:
                break

    return walk


def code_value(fmt):
    """Return f(word, i): what byte i of four codes stands for, before it is scaled."""
    center = fmt.center

    @inline
    def linear(word, i):
        return to_f32(to_i32((word >> 8 * i & 255) - center))

    @inline
    def entry(word, i):
        return to_f32(to_i32(to_i32(word << 24 - 8 * i) >> 24))

    return entry if fmt.table else linear


def _coded(name, tile, split):
    """A thread has four rows of a group of 32 columns, a warp eight groups."""
    fmt, group_reader = formats.get(name), reader(name)
    per_unit, unit_bytes = packed.unit_weights(fmt) // 32, packed.unit_bytes(name)
    load, n_words, parts = group_reader.load, group_reader.words, group_reader.parts
    codes_of, value_of = group_reader.codes, code_value(fmt)
    scale_of, offset_of = group_reader.scale, group_reader.offset or group_reader.scale
    has_offset, chunks, n_sums = group_reader.offset is not None, 8 // parts, tile * QUAD

    @inline
    def add_chunk(sums, totals, r, chunk, x, ldx, rows):
        """Add four columns: codes times x to `sums`, x to `totals`."""
        for i in unroll(4):
            for t in unroll(tile):
                factor = load_f32(x + 4 * (rows[t] * ldx + i))
                totals[t] = totals[t] + factor
                for row in unroll(QUAD):
                    value = value_of(codes_of(r, chunk, row), i)
                    sums[QUAD * t + row] = fma(value, factor, sums[QUAD * t + row])

    @inline
    def add_part(sums, r, part, x, ldx, rows):
        own, totals = registers_f32(n_sums), registers_f32(tile)
        for i in unroll(chunks):
            chunk = part * chunks + i
            add_chunk(own, totals, r, chunk, x + 16 * chunk, ldx, rows)
        for row in unroll(QUAD):
            scale, offset = scale_of(r, part, row), offset_of(r, part, row)
            for t in unroll(tile):
                at = QUAD * t + row
                sums[at] = fma(scale, own[at], sums[at])
                if has_offset:
                    sums[at] = fma(offset, totals[t], sums[at])

    @inline
    def walk(sums, matrix, k, x, ldx, rows):
        r, groups = registers_i32(n_words), k >> 5
        first = (warp() & split - 1) * GROUPS + (lane() >> 2)
        for group in range(first, groups, split * GROUPS):
            load(matrix + group // per_unit * unit_bytes, group & per_unit - 1, lane() & 3, r)
            for part in unroll(parts):
                add_part(sums, r, part, x + 128 * group, ldx, rows)

    return walk
