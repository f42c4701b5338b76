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
from jitllm.kernels.cuda import _codes
from jitllm.kernels.cuda._codes import group_codes, pair_codes, pair_loader
from jitllm.kernels.cuda._words import least_u32
from jitllm.kernels.gpu.vocabulary import (
    as_f32,
    inline,
    load_i32,
    load_i32x2,
    low_f16,
    to_f32,
    to_i32,
    unroll,
)

ROWS, QUAD = packed.ROWS, _codes.QUAD
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
    signed_pair, unsigned_pair : f(r, i, row, t)
        The same as signed bytes, see `signed_step`, and with 128 added to entries of the table.
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
    signed_pair: Function
    unsigned_pair: Function


def reader(name: str) -> Reader:
    """Return what reads a quantized format."""
    fmt = formats.get(name)
    head, load_head = _head_loader(fmt)
    load, codes = group_codes(fmt, head, load_head)
    vectors, load_pair = pair_loader(fmt, head, load_head)
    return Reader(
        words=head + QUAD * fmt.bits,
        pair_words=head + QUAD * vectors,
        parts=32 // fmt.group,
        load=load,
        load_pair=load_pair,
        scale=_scale(fmt),
        offset=_offset(fmt),
        codes=codes,
        pair=pair_codes(fmt, head),
        signed_pair=pair_codes(fmt, head, is_signed=True),
        unsigned_pair=pair_codes(fmt, head, added=128),
    )


def group_loader(name):
    """Make load(matrix, group, k, quad, t, r): `Reader.load_pair` of a group of 32 columns.

    If it is behind the last of k columns, those of the last.
    """
    load_pair, per_unit = reader(name).load_pair, packed.unit_weights(formats.get(name)) // 32
    unit_bytes = packed.unit_bytes(name)

    @inline
    def load(matrix, group, k, quad, t, r):
        group = least_u32(group, (k >> 5) - 1)
        load_pair(matrix + group // per_unit * unit_bytes, group & per_unit - 1, quad, t, r)

    return load


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
