"""What tensor cores multiply, 32 columns of 32 rows of W by those of some rows of x."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jitllm.kernels import formats, packed
from jitllm.kernels.cuda._packed import QUAD, reader
from jitllm.kernels.cuda._products import tile_product
from jitllm.kernels.cuda._words import least_u32, scaled_f16x2, sub_f16x2
from jitllm.kernels.gpu.vocabulary import (
    as_f32,
    inline,
    lane,
    load_f32,
    load_i32x2,
    load_shared_i32x4,
    minimum,
    mma_f16,
    pack_f16,
    registers_i32,
    stream_i32x4,
    to_i32,
    unroll,
)

Function = Callable[..., Any]
ONE = np.float32(1)
PAIRS = 4  # of columns that a thread has, of 32
NO_OFFSET = 0x80008000 - (1 << 32)  # -0 twice


def _twice(value):
    """Return the word of two float16 numbers."""
    bits = int(np.float16(value).view(np.uint16))
    return bits | bits << 16


@dataclass(frozen=True)
class Operands:
    """Functions and sizes for weights of a format.

    Attributes
    ----------
    words : int
        Registers that a thread's weights of 32 columns take.
    code_bytes, head_bytes : int
        Of 32 columns of a row of x: what stands first, and what follows for all rows.
    load : load(matrix, group, k, quad, t, r)
        Load 32 columns of four rows of W; if the group is behind the last, those of the last.
    multiply : multiply(sums, r, codes, heads)
        Add the products with rows of x that stand in shared memory.
    factor : factor(behind, row)
        A number of a row of x to multiply sums by; `behind` is where codes end.
    """

    words: int
    code_bytes: int
    head_bytes: int
    load: Function
    multiply: Function
    factor: Function


def codes(name, tokens):
    """Return codes times int8, see `quantize`, for `tokens` rows of x."""
    group_reader, per_unit = reader(name), packed.unit_weights(formats.get(name)) // 32
    load_pair, unit_bytes = group_reader.load_pair, packed.unit_bytes(name)

    @inline
    def load(matrix, group, k, quad, t, r):
        group = minimum(group, (k >> 5) - 1)
        load_pair(matrix + group // per_unit * unit_bytes, group & per_unit - 1, quad, t, r)

    @inline
    def factor(behind, row):
        return ONE

    multiply = tile_product(name, group_reader, tokens)
    return Operands(group_reader.pair_words, 32, 8, load, multiply, factor)


def halves(name, tokens):
    """Return numbers rounded to float16 times float16, see `to_half`, for `tokens` rows of x."""
    words, load, weight = (_numbers if formats.get(name).scales == "float" else _values)(name)
    n_tiles, n_weights = tokens // 8, QUAD * PAIRS

    @inline
    def add(sums, first, a, b):
        """Add 16 rows times 8; `sums` from `first` on are those of two rows of a thread."""
        d = mma_f16(a, b, (sums[first], sums[first + 1], sums[first + 2], sums[first + 3]))
        for i in unroll(4):
            sums[first + i] = d[i]

    @inline
    def multiply(sums, r, codes, heads):
        w = registers_i32(n_weights)
        weight(r, w)
        codes += 64 * (lane() >> 2) + 16 * (lane() & 3)
        for tile in unroll(n_tiles):
            b = load_shared_i32x4(codes + 512 * tile)
            for i in unroll(4):  # two pairs of rows, two halves of the columns
                row, at = 2 * (i & 1), 2 * QUAD * (i >> 1)
                a = (w[at + row], w[at + row + 1], w[at + QUAD + row], w[at + QUAD + row + 1])
                add(sums, 8 * tile + 2 * row, a, (b[at >> 2], b[(at >> 2) + 1]))

    @inline
    def factor(behind, row):
        return load_f32(behind + 4 * row)

    return Operands(words, 64, 0, load, multiply, factor)


# Makers of the weights of `halves` return the words that load(matrix, group, k, quad, t, r) fills,
# it, and weight(r, w): words of pairs of columns, [pair][row], in the order that `to_half` keeps.


def _numbers(name):
    """Float formats: thread t has columns t, t + 4 ... t + 28: a load is 128 bytes together."""
    size, column_bytes = formats.get(name).block_bytes, packed.unit_bytes(name)
    joined = {"F16": _join_f16, "BF16": _join_bf16, "F32": _join_f32}[name]

    @inline
    def load(matrix, group, k, quad, t, r):
        matrix += QUAD * size * quad
        for i in unroll(2 * PAIRS):
            at = matrix + least_u32(32 * group + t + 4 * i, k - 1) * column_bytes
            words = load_i32x2(at) if size == 2 else stream_i32x4(at)
            for j in unroll(size):
                r[size * i + j] = words[j]

    @inline
    def weight(r, w):
        for i in unroll(PAIRS):
            for row in unroll(QUAD):
                w[QUAD * i + row] = joined(r, 2 * i, row)

    return 2 * PAIRS * size, load, weight


@inline
def _join_f16(r, i, row):
    """Return columns i and i + 1 of a row in one word."""
    a, b = r[2 * i + (row >> 1)], r[2 * i + 2 + (row >> 1)]
    if row & 1:
        return to_i32(a >> 16 & 0xFFFF | b & 0xFFFF0000)
    return to_i32(a & 0xFFFF | b << 16)


@inline
def _join_bf16(r, i, row):
    a, b = r[2 * i + (row >> 1)], r[2 * i + 2 + (row >> 1)]
    if row & 1:
        return pack_f16(as_f32(to_i32(a & 0xFFFF0000)), as_f32(to_i32(b & 0xFFFF0000)))
    return pack_f16(as_f32(to_i32(a << 16)), as_f32(to_i32(b << 16)))


@inline
def _join_f32(r, i, row):
    return pack_f16(as_f32(r[4 * i + row]), as_f32(r[4 * i + 4 + row]))


def _values(name):
    """Codes: thread t has columns 8 t to 8 t + 7, of which 0 and 2, 1 and 3, ... are pairs.

    A byte below 1024's exponent is a float16, 1024 more than the code; scale and offset are rounded
    to float16, and so is scale * (code - center) + offset.
    """
    fmt, group_reader = formats.get(name), reader(name)
    load_pair, per_unit, unit_bytes = (
        group_reader.load_pair, packed.unit_weights(fmt) // 32, packed.unit_bytes(name),
    )  # fmt: skip
    parts, has_offset = group_reader.parts, group_reader.offset is not None
    scale_of, offset_of = group_reader.scale, group_reader.offset or group_reader.scale
    pair, flip = group_reader.pair, 0x80808080 if fmt.table else 0
    zero = _twice(1024 + fmt.dot_center)

    @inline
    def load(matrix, group, k, quad, t, r):
        group = minimum(group, (k >> 5) - 1)
        load_pair(matrix + group // per_unit * unit_bytes, group & per_unit - 1, quad, t, r)

    @inline
    def own(of, r, row, t):
        x = of(r, 0, row)
        if parts == 2 and t >= 2:
            x = of(r, 1, row)
        return pack_f16(x, x)

    @inline
    def weight(r, w):
        t = lane() & 3
        for row in unroll(QUAD):
            scale = own(scale_of, r, row, t)
            offset = own(offset_of, r, row, t) if has_offset else NO_OFFSET
            for i in unroll(PAIRS):
                word = to_i32(pair(r, i >> 1, row, t) ^ flip)
                word = to_i32(word >> 8 * (i & 1) & 0x00FF00FF | 0x64006400)
                w[QUAD * i + row] = scaled_f16x2(sub_f16x2(word, zero), scale, offset)

    return group_reader.pair_words, load, weight
