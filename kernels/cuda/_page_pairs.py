"""Parts of a page as right sides of products (`_fragments`), in float16, of any cache type.

A lane reads four rows of eight numbers at a time: of keys, which lie [items, 64], four columns of
eight keys; of values, [64, items], eight columns of four cells. A row becomes four words. Where
there is no cache, the cells of a page are 64 rows of float32 values, `step` bytes apart.

All that ask for cells `first` to `last` read no others: the nearest within stands for one that is
outside, as its weight is 0.
"""

from jitllm.kernels import formats
from jitllm.kernels.cache_types import is_quantized
from jitllm.kernels.cuda._fragments import pack
from jitllm.kernels.cuda._numbers import code_places, meaning_of
from jitllm.kernels.cuda._run import PAGE
from jitllm.kernels.gpu.vocabulary import (
    as_f32,
    inline,
    load_f16,
    load_f32x4,
    load_i32x4,
    load_i64,
    load_u8,
    load_u16,
    low_f16,
    registers_f32,
    to_i32,
    unroll,
)

NIBBLES, FIFTHS = 0x0F0F0F0F0F0F0F0F, 0x1010101010101010


@inline
def _f32_row(at, rows, k):
    for i in unroll(2):
        x = load_f32x4(at + 16 * i)
        rows[4 * k + 2 * i] = pack(x[0], x[1])
        rows[4 * k + 2 * i + 1] = pack(x[2], x[3])


@inline
def _f16_row(at, rows, k):
    words = load_i32x4(at)
    for i in unroll(4):
        rows[4 * k + i] = words[i]


@inline
def _bf16_row(at, rows, k):
    words = load_i32x4(at)
    for i in unroll(4):
        low, high = as_f32(to_i32(words[i] << 16)), as_f32(to_i32(words[i] & 0xFFFF0000))
        rows[4 * k + i] = pack(low, high)


_ROWS = {"f32": (4, _f32_row), "f16": (2, _f16_row), "bf16": (2, _bf16_row)}


def _scaler(fmt):
    """Make f(codes, scales, offsets, rows, k): eight codes, bytes of an int64, as row k."""
    meaning, has_offset = meaning_of(fmt), fmt.scales == "dm"

    @inline
    def number(codes, i, scales, offsets):
        x = scales[i] * meaning(codes >> 8 * i & 255)
        return x + offsets[i] if has_offset else x

    @inline
    def scale(codes, scales, offsets, rows, k):
        for i in unroll(4):
            low = number(codes, 2 * i, scales, offsets)
            rows[4 * k + i] = pack(low, number(codes, 2 * i + 1, scales, offsets))

    return scale


# --- keys ---------------------------------------------------------------------------------------


@inline
def read_key_rows(keys, step, d, c, r, first, last, words):
    """Read columns d + 4 r to d + 4 r + 3 of keys 8 c to 8 c + 7, two words for each key."""
    for j in unroll(8):
        cell = min(max(to_i32(8 * c + j), first), last)
        x = load_f32x4(keys + step * cell + 4 * (d + 4 * r))
        words[2 * j], words[2 * j + 1] = pack(x[0], x[1]), pack(x[2], x[3])


def key_reader(kind):
    """Make f(keys, d, c, r, rows): columns d + 4 r to d + 4 r + 3 of keys 8 c to 8 c + 7.

    `keys` is the address of a head's keys in a page; d is a multiple of 16. Cells that no query
    sees are read too.
    """
    if is_quantized(kind):
        return _quantized_key_reader(formats.get(kind.upper()))
    size, row = _ROWS[kind]
    step = size * PAGE

    @inline
    def read(keys, d, c, r, rows):
        at = keys + step * (d + 4 * r) + 8 * size * c
        for k in unroll(4):
            row(at + step * k, rows, k)

    return read


@inline
def _halves(at, out):
    """Read the float16 of eight keys; the high bytes lie in the row behind the low ones."""
    low, high = load_i64(at), load_i64(at + PAGE)
    for i in unroll(8):
        out[i] = low_f16(to_i32((low >> 8 * i & 255) | (high >> 8 * i & 255) << 8))


def _quantized_key_reader(fmt):
    upper_at, codes_at, has_offset, five = code_places(fmt)
    scale, is_byte, n_bytes = _scaler(fmt), fmt.bits == 8, fmt.block_bytes

    @inline
    def codes_of(at, i):
        """Return the codes of column i of a block, of eight keys."""
        if is_byte:
            return load_i64(at + PAGE * (codes_at + i))
        codes = load_i64(at + PAGE * (codes_at + (i & 15))) >> ((i >> 4) << 2) & NIBBLES
        if five:
            codes |= load_i64(at + PAGE * (upper_at + (i >> 3))) >> (i & 7) << 4 & FIFTHS
        return codes

    @inline
    def read(keys, d, c, r, rows):
        at, first = keys + PAGE * n_bytes * (d >> 5) + 8 * c, (d & 31) + 4 * r
        scales, offsets = registers_f32(8), registers_f32(8)
        _halves(at, scales)
        if has_offset:
            _halves(at + 2 * PAGE, offsets)
        for k in unroll(4):
            scale(codes_of(at, first + k), scales, offsets, rows, k)

    return read


# --- values -------------------------------------------------------------------------------------


def value_reader(kind, dv):
    """Make f(values, step, j, first, last, column, rows): eight columns of cells j to j + 3.

    j, `first` and `last` are int32, from the cell at `values` on; cells lie `step` bytes apart.
    Columns behind the last are 0.
    """
    row = value_row(kind)

    @inline
    def read(values, step, j, first, last, column, rows):
        if column < dv:
            for k in unroll(4):
                cell = min(max(to_i32(j + k), first), last)
                row(values + step * cell, column, rows, k)
        else:
            for i in unroll(16):
                rows[i] = to_i32(0)

    return read


def value_row(kind):
    """Make f(at, column, rows, k): columns `column` to column + 7 of the value at `at` as row k."""
    if is_quantized(kind):
        return _quantized_value_row(formats.get(kind.upper()))
    size, load = _ROWS[kind]

    @inline
    def row(at, column, rows, k):
        load(at + size * column, rows, k)

    return row


@inline
def _eight_bytes(at):
    """Return eight bytes at an even address."""
    return (
        load_u16(at) | load_u16(at + 2) << 16 | load_u16(at + 4) << 32 | load_u16(at + 6) << 48
    )  # fmt: skip


@inline
def _fifths(bits):
    """Return bit i of a byte as bit 4 of byte i."""
    low, high = (bits & 15) * 0x204081 & 0x01010101, (bits >> 4) * 0x204081 & 0x01010101
    return (low | high << 32) << 4


def _quantized_value_row(fmt):
    upper_at, codes_at, has_offset, five = code_places(fmt)
    scale, is_byte, n_bytes = _scaler(fmt), fmt.bits == 8, fmt.block_bytes

    @inline
    def row(at, column, rows, k):
        at, first = at + n_bytes * (column >> 5), column & 31
        scales, offsets = registers_f32(8), registers_f32(8)
        for i in unroll(8):
            scales[i] = load_f16(at)
            if has_offset:
                offsets[i] = load_f16(at + 2)
        if is_byte:
            codes = _eight_bytes(at + codes_at + first)
        else:
            codes = _eight_bytes(at + codes_at + (first & 15)) >> ((first >> 4) << 2) & NIBBLES
        if five:
            codes |= _fifths(load_u8(at + upper_at + (first >> 3)))
        scale(codes, scales, offsets, rows, k)

    return row
