"""Packed weights as a GPU's threads read them: 32 weights of four rows, 16 bytes at a time.

Of the layout of `kernels.packed`, a quad is four rows that lie beside each other: of every vector
of 64 bytes it has 16, one load, and a word of these is four weights of a row. The words that a
thread loads for a group of 32 weights, first those of scales, stand in registers, from which scales
and weights are taken one by one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jitllm.kernels import formats, packed
from jitllm.kernels.cuda._lookup import lookup
from jitllm.kernels.gpu.vocabulary import (
    as_f32,
    inline,
    load_i32,
    load_i32x2,
    low_f16,
    stream_i32x4,
    to_f32,
    to_i32,
    unroll,
)

ROWS, QUAD = packed.ROWS, 4
LANES = 0x01010101
Function = Callable[..., Any]


@dataclass(frozen=True)
class Reader:
    """Functions that read a format; `r` stands for registers, `registers_i32(words)`.

    Attributes
    ----------
    words, pair_words : int
        Words of a group, and of two chunks of it.
    parts : int
        Scales that 32 weights of a row have, 1 or 2.
    load : load(unit, group, quad, r)
        Load a group: `unit` is the address of 16 rows of a unit, `group` counts 32 weights in it.
    load_pair : load(unit, group, quad, t, r)
        Load what chunks 2 t and 2 t + 1 need, so that four threads have a group.
    scale, offset : f(r, part, row)
        float32, as `formats` defines them; `offset` is None if all are zero.
    codes : f(r, chunk, row)
        Four weights of a row, one a byte: codes or, signed, entries of the table.
    pair : f(r, i, row, t)
        The same of chunk 2 t + i, from what `load_pair` loaded.
    """

    words: int
    pair_words: int
    parts: int
    load: Function
    load_pair: Function
    scale: Function
    offset: Function | None
    codes: Function
    pair: Function


def reader(name: str) -> Reader:
    """Return what reads a quantized format."""
    fmt = formats.get(name)
    head, load_head = _head_loader(fmt)
    load, codes = _group(fmt, head, load_head)
    vectors, load_pair, pair = _pair(fmt, head, load_head)
    return Reader(
        words=head + QUAD * fmt.bits,
        pair_words=head + QUAD * vectors,
        parts=32 // fmt.group,
        load=load,
        load_pair=load_pair,
        scale=_scale(fmt),
        offset=_offset(fmt),
        codes=codes,
        pair=pair,
    )


# --- scales --------------------------------------------------------------------------------------


def _head_loader(fmt):
    """Return the words of scales, and load(unit, group, quad, r): float16 first, then bytes."""
    parts, kind = 32 // fmt.group, fmt.scales
    halves = {"dm": 2, "k_dm": 2, "d16": parts, "e8m0": 0}.get(kind, 1)
    n_bytes = {"k_d": parts, "k_dm": 2 * parts, "e8m0": 1}.get(kind, 0)
    half_step = 2 * ROWS * parts if kind == "d16" else 0
    byte_step = 0 if kind == "e8m0" else ROWS * parts
    bytes_at = 2 * ROWS * halves
    mins_at = (fmt.block_size // fmt.group - parts) * ROWS  # behind all scales

    @inline
    def load(unit, group, quad, r):
        for i in unroll(halves):
            a, b = load_i32x2(unit + half_step * group + 8 * quad + 2 * ROWS * i)
            r[2 * i] = a
            r[2 * i + 1] = b
        for i in unroll(n_bytes):
            at = unit + bytes_at + byte_step * group + 4 * quad + ROWS * i
            r[2 * halves + i] = load_i32(at + (mins_at if i >= parts else 0))

    return 2 * halves + n_bytes, load


@inline
def _half(r, first, row):
    return low_f16(to_i32(r[first + (row >> 1)] >> 16 * (row & 1)))


@inline
def _byte(word, row):
    return to_i32(word >> 8 * row & 255)


@inline
def _signed_byte(word, row):
    return to_i32(to_i32(word << 24 - 8 * row) >> 24)


def _scale(fmt):
    factor = np.float32(fmt.factor)
    subs = {"k_d": 2, "k_dm": 4}.get(fmt.scales, 0)
    byte = _signed_byte if fmt.scales == "k_d" else _byte

    @inline
    def whole(r, part, row):
        return _half(r, 0, row)

    @inline
    def each(r, part, row):
        return _half(r, 2 * part, row)

    @inline
    def product(r, part, row):
        return _half(r, 0, row) * factor * to_f32(byte(r[subs + part], row))

    @inline
    def power(r, part, row):
        """2^(e - 128): a float32 with the exponent e - 1, subnormal where that is not positive."""
        e = _byte(r[0], row)
        return as_f32(to_i32(e - 1 << 23 if e > 1 else 0x00200000 << e))

    return {"k_d": product, "k_dm": product, "d16": each, "e8m0": power}.get(fmt.scales, whole)


def _offset(fmt):
    mins = 4 + 32 // fmt.group

    @inline
    def whole(r, part, row):
        return _half(r, 2, row)

    @inline
    def product(r, part, row):
        return -(_half(r, 2, row) * to_f32(_byte(r[mins + part], row)))

    return {"dm": whole, "k_dm": product}.get(fmt.scales)


# --- codes ---------------------------------------------------------------------------------------


def _field(bits, start):
    """Make f(word, shift): the fields at `shift` of each byte, moved to bit `start`."""
    mask = ((1 << bits) - 1) * LANES << start

    @inline
    def field(word, shift):
        return to_i32((word >> shift - start if shift >= start else word << start - shift) & mask)

    @inline
    def whole(word, shift):
        return word

    return whole if bits == 8 else field


def _entries(fmt):
    """Return f(even, odd, i): what the even or the odd chunk of a pair stands for.

    Entries of a table are looked up for both: a byte has a code of each, so `even` and `odd`, the
    codes of each chunk one a byte, are joined, if they are no bytes with both as they are stored.
    """
    entries, joined = lookup(fmt.table) if fmt.table else None, fmt.bits < 4

    @inline
    def same(even, odd, i):
        return odd if i else even

    @inline
    def from_table(even, odd, i):
        return entries(to_i32(even | odd << 4) if joined else even, i)

    return from_table if fmt.table else same


def _group(fmt, head, load_head):
    """Return load(unit, group, quad, r) and codes(r, chunk, row)."""
    header, bits, entries = packed.header_bytes(fmt), fmt.bits, _entries(fmt)
    low_bits, low = fmt.planes[0], _field(fmt.planes[0], 0)
    high_bits, is_raw = bits - low_bits, bool(fmt.table) and bits == 4
    high, low_per, high_per = _field(high_bits, low_bits), 8 // low_bits, 8 // max(high_bits, 1)
    high_at = head + QUAD * low_bits

    @inline
    def load(unit, group, quad, r):
        load_head(unit, group, quad, r)
        at = unit + header + group * (64 * bits) + 16 * quad
        for vector in unroll(bits):
            loaded = stream_i32x4(at + 64 * vector)
            for row in unroll(QUAD):
                r[head + QUAD * vector + row] = loaded[row]

    @inline
    def word_of(r, chunk, row):
        word = r[head + QUAD * (chunk // low_per) + row]
        if is_raw:
            return word
        word = low(word, low_bits * (chunk % low_per))
        if high_bits:
            other = r[high_at + QUAD * (chunk // high_per) + row]
            word = to_i32(word | high(other, high_bits * (chunk % high_per)))
        return word

    @inline
    def codes(r, chunk, row):
        even, odd = word_of(r, chunk & ~1, row), word_of(r, chunk | 1, row)
        return entries(even, odd, chunk & 1)

    return load, codes


def _pair(fmt, head, load_head):
    """Return how many vectors load(unit, group, quad, t, r) needs, it, and pair(r, i, row, t)."""
    header, bits, entries = packed.header_bytes(fmt), fmt.bits, _entries(fmt)
    low_bits, low = fmt.planes[0], _field(fmt.planes[0], 0)
    high_bits = bits - low_bits
    high, is_byte = _field(high_bits, low_bits), low_bits == 8
    is_raw = bool(fmt.table) and bits == 4
    vectors = 2 if is_byte or high_bits else 1

    @inline
    def load(unit, group, quad, t, r):
        load_head(unit, group, quad, r)
        at = unit + header + group * (64 * bits) + 16 * quad
        for i in unroll(vectors):
            vector = 2 * t + i if is_byte else t * low_bits >> 2
            if i and not is_byte:
                vector = low_bits + (t * high_bits >> 2)
            loaded = stream_i32x4(at + 64 * vector)
            for row in unroll(QUAD):
                r[head + QUAD * i + row] = loaded[row]

    @inline
    def word_of(r, i, row, t):
        word = r[head + row + (QUAD * i if is_byte else 0)]
        if is_raw:
            return word
        word = low(word, (2 * t + i) * low_bits & 7)
        if high_bits:
            word = to_i32(word | high(r[head + QUAD + row], (2 * t + i) * high_bits & 7))
        return word

    @inline
    def pair(r, i, row, t):
        return entries(word_of(r, 0, row, t), word_of(r, 1, row, t), i)

    return vectors, load, pair
