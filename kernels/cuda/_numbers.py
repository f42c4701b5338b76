"""The numbers of cached keys and values.

A page has, for each head, keys [items, 64] and then values [64, items]; items are numbers or, of
quantized types, bytes of blocks (`jitllm.kernels.cache_types`). Kernels get the place of a type in
`cache_types.NAMES`.
"""

from jitllm.kernels import formats
from jitllm.kernels.cache_types import NAMES, is_quantized
from jitllm.kernels.gpu.vocabulary import (
    inline,
    load_bf16,
    load_f16,
    load_f32,
    load_u8,
    low_f16,
    to_f32,
    to_i32,
)

_LOADERS = {"f32": (4, load_f32), "f16": (2, load_f16), "bf16": (2, load_bf16)}


def kind_of(place):
    """Return the name of the type at a place of `NAMES`."""
    return NAMES[place]


def item_bytes(kind):
    """Return the bytes of an item of a type."""
    return 1 if is_quantized(kind) else _LOADERS[kind][0]


def entry_of(table):
    """Make entry(code): an entry of a table of 16 signed bytes, as int64."""
    halves = [sum((x & 255) << 8 * i for i, x in enumerate(part)) for part in _split(table)]
    low, high = (x - (1 << 64) if x >> 63 else x for x in halves)

    @inline
    def entry(code):
        word = high if code & 8 else low
        return ((word >> 8 * (code & 7) & 255) ^ 128) - 128

    return entry


def _split(table):
    return table[:8], table[8:]


def meaning_of(fmt):
    """Make f(code): what a code stands for before it is scaled, as float32.

    A code is an int64; of one with 8 bits, the low byte counts, which is signed.
    """
    center, is_byte = fmt.center, fmt.bits == 8

    @inline
    def linear(code):
        return to_f32(((code & 255) ^ 128) - 128 if is_byte else code - center)

    if not fmt.table:
        return linear
    entry = entry_of(fmt.table)

    @inline
    def from_table(code):
        return to_f32(entry(code))

    return from_table


def code_places(fmt):
    """Return where fifth bits and codes begin in a block, and if there are offsets, and fifths."""
    has_offset, five = fmt.scales == "dm", fmt.bits == 5
    upper_at = 4 if has_offset else 2
    return upper_at, upper_at + 4 if five else upper_at, has_offset, five


def _half(step):
    """Make f(at): a float16 whose bytes lie `step` apart."""

    @inline
    def apart(at):
        return low_f16(to_i32(load_u8(at) | load_u8(at + step) << 8))

    return load_f16 if step == 1 else apart


def number(kind, step):
    """Make f(at, i): number i of a row whose items lie `step` items apart, as float32."""
    if not is_quantized(kind):
        size, load = _LOADERS[kind]
        apart = size * step

        @inline
        def plain(at, i):
            return load(at + apart * i)

        return plain
    return _number_of_block(formats.get(kind.upper()), step)


def _number_of_block(fmt, step):
    half, meaning, is_byte = _half(step), meaning_of(fmt), fmt.bits == 8
    upper_at, codes_at, has_offset, five = code_places(fmt)
    n_bytes = step * fmt.block_bytes

    @inline
    def code_of(at, i):
        if is_byte:
            return load_u8(at + step * (codes_at + i))
        code = load_u8(at + step * (codes_at + (i & 15))) >> ((i >> 4) << 2) & 15
        if five:
            code |= (load_u8(at + step * (upper_at + (i >> 3))) >> (i & 7) & 1) << 4
        return code

    @inline
    def of_block(at, i):
        at += n_bytes * (i >> 5)
        x = half(at) * meaning(code_of(at, i & 31))
        if has_offset:
            x += half(at + 2 * step)
        return x

    return of_block
