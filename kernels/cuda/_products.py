"""A group of 32 weights of four rows times activations, by dot products of four bytes."""

import numpy as np

from jitllm.kernels import formats
from jitllm.kernels.cuda._packed import QUAD
from jitllm.kernels.gpu.vocabulary import (
    as_f32,
    dot4_s8,
    dot4_u8,
    fma,
    inline,
    lane,
    load_i32x2,
    load_i32x4,
    load_shared_i32x2,
    load_shared_i32x4,
    mma_s8,
    registers_f32,
    registers_i32,
    to_f32,
    to_i32,
    unroll,
)

FLIP, ZERO = 0x80808080, np.float32(0)
# 1.5 * 2^23, to whose bits whole numbers below 2^22 in size are added: then it is that much more.
BASE, BASE_BITS = np.float32(12582912.0), 0x4B400000


def sums_of_codes(parts):
    """Return f(word, part): the sum of a row's 32 codes, or of one of its halves."""

    @inline
    def low(word):
        return to_i32(to_i32(word << 16) >> 16)

    @inline
    def whole(word, part):
        return to_i32(low(word) + (word >> 16))

    @inline
    def half(word, part):
        return to_i32(word >> 16) if part else low(word)

    return whole if parts == 1 else half


def row_product(fmt, group_reader, tile):
    """Make add(sums, r, codes, heads, place, rows, is_there): `sums`, [tile][4], get products.

    `r` has a group of four rows of W as `group_reader.load` loads them. Row t of x is row `rows`[t]
    of what `quantize` made: its 32 columns are at codes + 32 (place + rows[t]), and count as zero
    if not `is_there`.
    """
    layout, parts = formats.get(fmt), group_reader.parts
    center, n_of = layout.dot_center if not layout.table else 0, sums_of_codes(parts)
    dot4 = dot4_u8 if layout.bits == 8 else dot4_s8
    codes_of, scale_of, offset_of = group_reader.codes, group_reader.scale, group_reader.offset
    has_offset, n_sums, n_codes = offset_of is not None, tile * QUAD, 4 * QUAD
    offset_of = offset_of or scale_of

    @inline
    def add_half(totals, r, half, codes, place, rows):
        """Add the integer products of 16 columns: the weights are unpacked once for all rows."""
        w = registers_i32(n_codes)
        for i in unroll(n_codes):
            w[i] = codes_of(r, 4 * half + (i & 3), i >> 2)
        for t in unroll(tile):
            x = load_i32x4(codes + 32 * (place + rows[t]) + 16 * half)
            for i in unroll(n_codes):
                at = QUAD * t + (i >> 2)
                totals[at] = dot4(w[i], x[i & 3], totals[at])

    @inline
    def scale(sums, totals, r, part, heads, place, rows, is_there):
        for t in unroll(tile):
            d, n = load_i32x2(heads + 8 * (place + rows[t]))
            dx, own = as_f32(d) if is_there else ZERO, n_of(n, part)
            for row in unroll(QUAD):
                at = QUAD * t + row
                total = to_f32(to_i32(totals[at] - center * own))
                sums[at] = fma(total, scale_of(r, part, row) * dx, sums[at])
                if has_offset:
                    s = dx * to_f32(own)
                    sums[at] = fma(offset_of(r, part, row), s, sums[at])

    @inline
    def add(sums, r, codes, heads, place, rows, is_there):
        for part in unroll(parts):
            totals = registers_i32(n_sums)
            for i in unroll(2 // parts):
                add_half(totals, r, part + i, codes, place, rows)
            scale(sums, totals, r, part, heads, place, rows, is_there)

    return add


def tile_product(fmt, group_reader, tokens):
    """Make multiply(sums, r, codes, heads): a warp's 32 rows of W times `tokens` rows of x.

    `r` has a group as `group_reader.load_pair` loads it, with t = lane() & 3; `codes` and `heads`
    are addresses in shared memory of int8 [tokens][32] and of [tokens] heads, 8 bytes each. A
    thread has the sums of four rows of W and two of x of every eight: [tokens / 8][4][2].
    """
    parts, has_offset = group_reader.parts, group_reader.offset is not None
    scale_of, offset_of = group_reader.scale, group_reader.offset or group_reader.scale
    weights_of, add_part = group_reader.pair, _part_product(fmt, group_reader)
    n_weights, n_scales, n_tiles = 2 * QUAD, QUAD * parts, tokens // 8
    flip = FLIP if formats.get(fmt).bits == 8 else 0  # to codes minus 128, which are signed

    @inline
    def multiply(sums, r, codes, heads):
        t, column = lane() & 3, lane() >> 2
        w, scales = registers_i32(n_weights), registers_f32(n_scales)
        offsets = registers_f32(n_scales)
        for row in unroll(QUAD):
            for i in unroll(2):
                w[2 * row + i] = to_i32(weights_of(r, i, row, t) ^ flip)
            for part in unroll(parts):
                scales[QUAD * part + row] = scale_of(r, part, row)
                if has_offset:
                    offsets[QUAD * part + row] = offset_of(r, part, row)
        codes += 32 * column + 8 * t
        heads += 16 * t
        for tile in unroll(n_tiles):
            b = load_shared_i32x2(codes + 256 * tile)
            head = load_shared_i32x4(heads + 64 * tile)
            for part in unroll(parts):
                keep = -1 if parts == 1 or (t < 2) == (part == 0) else 0
                own = (to_i32(b[0] & keep), to_i32(b[1] & keep))
                add_part(sums, 8 * tile, w, own, head, scales, offsets, part)

    return multiply


def _part_product(fmt, group_reader):
    """Make add(...): 32 rows of W times eight of x, of the columns that share a scale."""
    layout, parts = formats.get(fmt), group_reader.parts
    center = 0 if layout.table or layout.bits == 8 else layout.center
    has_offset, n_of = group_reader.offset is not None, sums_of_codes(parts)

    @inline
    def add(sums, first, w, b, head, scales, offsets, part):
        for i in unroll(2):
            p, q = n_of(head[1], part), n_of(head[3], part)
            start = to_i32(BASE_BITS - center * p), to_i32(BASE_BITS - center * q)
            a = (w[4 * i], w[4 * i + 2], w[4 * i + 1], w[4 * i + 3])
            d = mma_s8(a, b, (start[0], start[1], start[0], start[1]))
            for j in unroll(4):
                row, column = 2 * i + (j >> 1), j & 1
                at, own = first + 2 * row + column, QUAD * part + row
                dx = as_f32(head[2 * column])
                sums[at] = fma(as_f32(d[j]) - BASE, scales[own] * dx, sums[at])
                if has_offset:
                    s = dx * to_f32(to_i32(q if column else p))
                    sums[at] = fma(offsets[own], s, sums[at])

    return add
