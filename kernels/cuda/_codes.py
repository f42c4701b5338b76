"""Codes of packed weights: loads of 16 bytes, and what four bytes of them stand for.

In each byte of a word a plane has its bits of several chunks, four weights each, chunk after chunk;
`registers` of a group have, behind `head` words of scales, four rows' words of each load.
"""

from jitllm.kernels import packed
from jitllm.kernels.cuda._lookup import lookup
from jitllm.kernels.cuda._words import rotate
from jitllm.kernels.gpu.vocabulary import inline, stream_i32x4, to_i32, unroll

QUAD = 4  # rows
LANES, FLIP = 0x01010101, 0x80808080


def signed_step(fmt):
    """Return step and center: a signed byte is `step` times the code less `center`.

    Bytes have their codes on top and the first bit flipped, if anything is subtracted at all; the
    step is a power of two.
    """
    is_flipped = fmt.center and not fmt.table
    return (1 << 8 - fmt.bits, 1 << fmt.bits - 1) if is_flipped else (1, 0)


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


def _entries(fmt, added=0):
    """Return f(even, odd, i): what the even or the odd chunk of a pair stands for.

    Entries of a table are looked up for both: a byte has a code of each, so `even` and `odd`, the
    codes of each chunk one a byte, are joined, if they are no bytes with both as they are stored.
    """
    entries, joined = lookup(fmt.table, added) if fmt.table else None, fmt.bits < 4

    @inline
    def same(even, odd, i):
        return odd if i else even

    @inline
    def from_table(even, odd, i):
        return entries(to_i32(even | odd << 4) if joined else even, i)

    return from_table if fmt.table else same


def group_codes(fmt, head, load_head):
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

    return load, _entries_of_three_bits(fmt, head) if fmt.table and bits == 3 else codes


def _entries_of_three_bits(fmt, head):
    """Return codes(r, chunk, row) for tables whose codes have planes of 2 bits and of 1.

    A byte has chunk c below chunk c + 2: of the plane of 2 bits a mask takes both.
    """
    entries, high_at = lookup(fmt.table), head + QUAD * fmt.planes[0]

    @inline
    def codes(r, chunk, row):
        low, high = r[head + QUAD * (chunk >> 2) + row], r[high_at + row]
        first, bit = chunk & 1, chunk & 5  # places in a byte
        word = low >> 2 * first & 0x33333333
        word |= _moved(high, bit - 2) & 0x04040404 | _moved(high, bit - 4) & 0x40404040
        return entries(to_i32(word), chunk >> 1 & 1)

    return codes


@inline
def _moved(word, n):
    """Return a word moved right by n bits."""
    return word >> n if n >= 0 else word << -n


def pair_loader(fmt, head, load_head):
    """Return how many vectors load(unit, group, quad, t, r) needs, and it."""
    header, bits, low_bits = packed.header_bytes(fmt), fmt.bits, fmt.planes[0]
    high_bits, is_byte = bits - low_bits, low_bits == 8
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

    return vectors, load


def _turned_field(bits, start):
    """Make the f(word, shift) of `_field` for shifts that are known at run time."""
    mask = ((1 << bits) - 1) * LANES << start

    @inline
    def field(word, shift):
        return to_i32(rotate(word, to_i32(shift - start)) & mask)

    @inline
    def whole(word, shift):
        return word

    return whole if bits == 8 else field


def pair_codes(fmt, head, is_signed=False, added=0):
    """Return f(r, i, row, t): chunk 2 t + i of what `load_pair` loads."""
    bits, low_bits, is_raw = fmt.bits, fmt.planes[0], bool(fmt.table) and fmt.bits == 4
    high_bits, is_byte, entries = bits - low_bits, low_bits == 8, _entries(fmt, added)
    is_flipped = is_signed and signed_step(fmt)[1] > 0
    start, flip = (8 - bits, FLIP) if is_flipped else (0, 0)
    low, high = _turned_field(low_bits, start), _turned_field(high_bits, start + low_bits)

    @inline
    def word_of(r, i, row, t):
        word = r[head + row + (QUAD * i if is_byte else 0)]
        if is_raw:
            return word
        word = low(word, (2 * t + i) * low_bits & 7)
        if high_bits:
            word = to_i32(word | high(r[head + QUAD + row], (2 * t + i) * high_bits & 7))
        return to_i32(word ^ flip)

    @inline
    def pair(r, i, row, t):
        return entries(word_of(r, 0, row, t), word_of(r, 1, row, t), i)

    return pair
