"""Weights of one row of a packed matrix as float32, exactly.

`kernels.packed` has the layout; a value is scale * (code - center) + offset, each step rounded, as
the formats define it.
"""

import numpy as np

from jitllm.kernels import formats, packed
from jitllm.kernels.cuda._numbers import entry_of
from jitllm.kernels.gpu import (
    as_f32,
    divide_u32,
    inline,
    load_bf16,
    load_f16,
    load_f32,
    load_i8,
    load_u8,
    load_u32,
    remainder_u32,
    to_f32,
    to_i32,
)

ROWS = packed.ROWS


def number_reader(fmt):
    """Return f(block, i, row): weight i of one of the 16 rows at `block`, of a float format."""
    load = {"F32": load_f32, "F16": load_f16, "BF16": load_bf16}[fmt]
    step, size = packed.unit_bytes(fmt), formats.get(fmt).block_bytes

    @inline
    def read(block, i, row):
        return load(block + i * step + row * size)

    return read


def quad_reader(fmt):
    """Return f(block, i, row): weights i to i + 3, i = 4n, of a format that has codes."""
    layout = formats.get(fmt)
    word_of, value_of = _word_reader(layout.planes), _value_reader(layout)
    scale_of, offset_of = _scale_reader(layout), _offset_reader(layout)
    unit_weights, unit_bytes = packed.unit_weights(layout), packed.unit_bytes(fmt)
    header, step, group = packed.header_bytes(layout), 64 * layout.bits, layout.group

    @inline
    def read(block, i, row):
        unit, at = block + divide_u32(i, unit_weights) * unit_bytes, remainder_u32(i, unit_weights)
        word = word_of(unit + header + (at >> 5) * step + 4 * row, (at & 31) >> 2)
        number = divide_u32(at, group)
        scale, offset = scale_of(unit, number, row), offset_of(unit, number, row)
        return (
            scale * value_of(word & 255) + offset,
            scale * value_of(word >> 8 & 255) + offset,
            scale * value_of(word >> 16 & 255) + offset,
            scale * value_of(word >> 24 & 255) + offset,
        )

    return read


def _word_reader(planes):
    """Return f(codes, chunk): four codes of a row, one a byte, `codes` being its first ones."""
    if len(planes) == 1:
        return _plane_reader(planes[0], 0)
    low, high = _plane_reader(planes[0], 0), _plane_reader(planes[1], planes[0])
    low_bytes = 64 * planes[0]

    @inline
    def read(codes, chunk):
        return low(codes, chunk) | high(codes + low_bytes, chunk)

    return read


def _plane_reader(bits, start):
    """Return f(codes, chunk): the fields of a bit plane, moved to bit `start` of each byte."""
    per, mask = 8 // bits, ((1 << bits) - 1) * 0x01010101

    @inline
    def read(codes, chunk):
        word = load_u32(codes + 64 * (divide_u32(chunk, per)))
        return (word >> bits * (remainder_u32(chunk, per)) & mask) << start

    return read


def _value_reader(layout):
    """Return f(code): the whole number that it stands for, as float32."""
    if not layout.table:
        center = layout.center

        @inline
        def number(code):
            return to_f32(code - center)

        return number
    entry = entry_of(layout.table)

    @inline
    def looked_up(code):
        return to_f32(entry(code))

    return looked_up


def _scale_reader(layout):
    """Return f(unit, group, row), the scale of a group of a row."""
    factor = np.float32(layout.factor)
    subs_at = {"k_d": 2, "k_dm": 4}.get(layout.scales, 0) * ROWS
    load_sub = load_i8 if layout.scales == "k_d" else load_u8

    @inline
    def whole(unit, group, row):
        return load_f16(unit + 2 * row)

    @inline
    def each(unit, group, row):
        return load_f16(unit + 2 * ROWS * group + 2 * row)

    @inline
    def product(unit, group, row):
        sc = to_f32(load_sub(unit + subs_at + ROWS * group + row))
        return load_f16(unit + 2 * row) * factor * sc

    @inline
    def power(unit, group, row):
        """2^(e - 128): a float32 with the exponent e - 1, subnormal where that is not positive."""
        e = load_u8(unit + row)
        bits = e - 1 << 23 if e > 1 else 0x00200000 << e
        return as_f32(to_i32(bits))

    return {"k_d": product, "k_dm": product, "d16": each, "e8m0": power}.get(layout.scales, whole)


def _offset_reader(layout):
    """Return f(unit, group, row), the offset of a group of a row; -0, if the format has none."""
    subs_at = (4 + layout.block_size // layout.group) * ROWS
    none = np.float32(-0.0)  # x + -0 is x, whatever its sign

    @inline
    def whole(unit, group, row):
        return load_f16(unit + 2 * ROWS + 2 * row)

    @inline
    def product(unit, group, row):
        mn = to_f32(load_u8(unit + subs_at + ROWS * group + row))
        return -(load_f16(unit + 2 * ROWS + 2 * row) * mn)

    @inline
    def nothing(unit, group, row):
        return none

    return {"dm": whole, "k_dm": product}.get(layout.scales, nothing)
