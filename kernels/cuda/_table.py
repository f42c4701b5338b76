"""Rows of a packed table as float32.

A row shares 16-byte loads with three others, so that 4 to 16 times its bytes are read: little
beside any product with the table.
"""

import numpy as np

from jitllm.kernels import formats, packed
from jitllm.kernels.cuda._packed import QUAD, ROWS, reader
from jitllm.kernels.gpu.vocabulary import (
    divide_u32,
    inline,
    load_bf16,
    load_f16,
    load_f32,
    minimum,
    registers_i32,
    store_f32,
    store_f32x4,
    thread,
    to_f32,
    to_i32,
    unroll,
)

THREADS = 64
SPAN = 32 * THREADS  # columns of a workgroup
NO_OFFSET = np.float32(-0.0)  # x + -0 is x, whatever its sign


def row_copier(fmt):
    """Make copy(table, number, width, y, start): up to SPAN columns of a row, from `start` on.

    All threads take part; y is where column 0 goes, at a multiple of 16 bytes.
    """
    layout = formats.get(fmt)
    copy = _number_copier(fmt) if layout.scales == "float" else _code_copier(layout)
    unit_weights, unit_bytes = packed.unit_weights(layout), packed.unit_bytes(fmt)

    @inline
    def copy_row(table, number, width, y, start):
        block = table + (number >> 4) * (divide_u32(width, unit_weights) * unit_bytes)
        copy(block, number & (ROWS - 1), y, start, minimum(start + SPAN, width))

    return copy_row


def _number_copier(fmt):
    """Make copy(block, row, y, start, stop): columns of one of the 16 rows at `block`."""
    load = {"F32": load_f32, "F16": load_f16, "BF16": load_bf16}[fmt]
    step, size = packed.unit_bytes(fmt), formats.get(fmt).block_bytes

    @inline
    def copy(block, row, y, start, stop):
        for i in range(start + thread(), stop, THREADS):
            store_f32(y + 4 * i, load(block + i * step + row * size))

    return copy


def _byte_reader(layout):
    """Make f(word, i): what byte i of four codes stands for, before it is scaled."""
    center, is_signed = layout.center, bool(layout.table)

    @inline
    def value(word, i):
        if is_signed:
            return to_f32(to_i32(word << 24 - 8 * i) >> 24)
        return to_f32((word >> 8 * i & 255) - center)

    return value


def _eight_copier(layout):
    """Make copy(unit, group, row, t, y): weights 8 t to 8 t + 7 of a group of 32, to y."""
    read, value = reader(layout.name), _byte_reader(layout)
    words, two_scales, load = read.pair_words, read.parts == 2, read.load_pair
    scale_of, pair, has_offset = read.scale, read.pair, read.offset is not None
    offset_of = read.offset or read.scale

    @inline
    def copy_own(r, row, part, t, y):
        scale = scale_of(r, part, row)
        offset = offset_of(r, part, row) if has_offset else NO_OFFSET
        for i in unroll(2):
            word = pair(r, i, row, t)
            weights = (
                scale * value(word, 0) + offset, scale * value(word, 1) + offset,
                scale * value(word, 2) + offset, scale * value(word, 3) + offset,
            )  # fmt: skip
            store_f32x4(y + 16 * i, weights)

    @inline
    def copy(unit, group, row, t, y):
        r = registers_i32(words)
        load(unit, group, row >> 2, t, r)
        for own in unroll(QUAD):  # registers have no place that is known at run time alone
            if own == row & 3:
                if two_scales and t >= 2:
                    copy_own(r, own, 1, t, y)
                else:
                    copy_own(r, own, 0, t, y)

    return copy


def _code_copier(layout):
    copy_eight, unit_bytes = _eight_copier(layout), packed.unit_bytes(layout.name)
    per_unit = packed.unit_weights(layout) // 32

    @inline
    def copy(block, row, y, start, stop):
        for i in range((start >> 3) + thread(), stop >> 3, THREADS):
            group = i >> 2
            unit = divide_u32(group, per_unit)
            at = block + unit * unit_bytes
            copy_eight(at, group - unit * per_unit, row, i & 3, y + 32 * i)

    return copy
