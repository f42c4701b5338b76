"""A group of 32 weights of four rows times activations, by dot products of four bytes."""

import numpy as np

from jitllm.kernels import formats
from jitllm.kernels.cuda._codes import signed_step
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

ZERO = np.float32(0)
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

    Columns of another scale are masked. Of scales 21 bits count at most: BASE times one is exact.
    """
    parts, has_offset = group_reader.parts, group_reader.offset is not None
    scale_of, offset_of = group_reader.scale, group_reader.offset or group_reader.scale
    weights_of, add = group_reader.signed_pair, _step(fmt, group_reader)
    n_weights, n_factors, n_tiles = 2 * QUAD, 3 * QUAD, tokens // 8
    inverse = np.float32(1 / signed_step(formats.get(fmt))[0])

    @inline
    def multiply(sums, r, codes, heads):
        t, column = lane() & 3, lane() >> 2
        w = registers_i32(n_weights)
        factors = registers_f32(n_factors)  # scales, what undoes BASE, offsets
        for i in unroll(n_weights):
            w[i] = weights_of(r, i & 1, i >> 1, t)
        codes += 32 * column + 8 * t
        heads += 16 * t
        for part in unroll(parts):
            keep = -1 if parts == 1 or (t < 2) == (part == 0) else 0
            for row in unroll(QUAD):
                factors[row] = scale_of(r, part, row) * inverse
                factors[QUAD + row] = -BASE * factors[row]
                if has_offset:
                    factors[2 * QUAD + row] = offset_of(r, part, row)
            for tile in unroll(n_tiles):
                b = load_shared_i32x2(codes + 256 * tile)
                head = load_shared_i32x4(heads + 64 * tile)
                own = to_i32(b[0] & keep), to_i32(b[1] & keep)
                add(sums, 8 * tile, w, own, head, factors, part)

    return multiply


def _step(fmt, group_reader):
    """Make add(...): 32 rows of W times eight of x, of the columns that share a scale."""
    layout, has_offset = formats.get(fmt), group_reader.offset is not None
    step, center = signed_step(layout)
    n_of = sums_of_codes(group_reader.parts)
    left = step * ((0 if layout.table else layout.center) - center)  # to subtract for each of x

    @inline
    def add(sums, first, w, b, head, factors, part):
        p, q = n_of(head[1], part), n_of(head[3], part)
        start = to_i32(BASE_BITS - left * p), to_i32(BASE_BITS - left * q)
        dx = as_f32(head[0]), as_f32(head[2])
        s = dx[0] * to_f32(to_i32(p)), dx[1] * to_f32(to_i32(q))
        for i in unroll(2):
            a = (w[4 * i], w[4 * i + 2], w[4 * i + 1], w[4 * i + 3])
            d = mma_s8(a, b, (start[0], start[1], start[0], start[1]))
            for j in unroll(4):
                row, column = 2 * i + (j >> 1), j & 1
                at = first + 2 * row + column
                total = fma(as_f32(d[j]), factors[row], factors[QUAD + row])
                sums[at] = fma(total, dx[column], sums[at])
                if has_offset:
                    sums[at] = fma(factors[2 * QUAD + row], s[column], sums[at])

    return add
