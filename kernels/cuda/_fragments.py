"""Products of a warp: 16 rows times 64 columns, straight from the memory of a page.

Lane l of the 32 has c = l // 4 and r = l % 4. A product over 16 numbers is split so that what a
lane reads lies together: it takes rows 4 r to 4 r + 3 of the 16, and of each the eight numbers from
8 c on. Tile j of the eight thus has, in its column n, number 8 n + j. Of the result, a lane holds
for rows c and c + 8 the columns 16 r to 16 r + 15: element e of tile j is row c + 8 (e // 2),
column 16 r + j + 8 (e % 2). No lane passes anything to another, and nothing is staged.
"""

from jitllm.kernels.gpu.vocabulary import (
    bound_f16x2,
    inline,
    mma_f16,
    pack_f16,
    permute_bytes,
    unroll,
)

TILES = 8  # of 8 columns
SUMS = 4 * TILES  # registers of the result
LARGEST_TWO = 0x7BFF7BFF  # float16 in a word


@inline
def pack(low, high):
    """Round two float32 to float16 in one word; those too large become the largest."""
    return bound_f16x2(pack_f16(low, high), LARGEST_TWO)


@inline
def _low_pair(a, b):
    """Return the low halves of two words as one word."""
    return permute_bytes(a, b, 0x5410)


@inline
def _high_pair(a, b):
    """Return the high halves of two words as one word."""
    return permute_bytes(a, b, 0x7632)


@inline
def _add_product(a, b, sums, at):
    tile = mma_f16(a, b, (sums[at], sums[at + 1], sums[at + 2], sums[at + 3]))
    for e in unroll(4):
        sums[at + e] = tile[e]


@inline
def multiply(a, rows, sums, first):
    """Add a b to the 32 sums from `first` on; a lane has its rows of b as four words each."""
    for i in unroll(4):
        low = _low_pair(rows[i], rows[4 + i]), _low_pair(rows[8 + i], rows[12 + i])
        _add_product(a, low, sums, first + 8 * i)
        high = _high_pair(rows[i], rows[4 + i]), _high_pair(rows[8 + i], rows[12 + i])
        _add_product(a, high, sums, first + 8 * i + 4)


@inline
def multiply_pairs(a, words, sums, first):
    """Add a b to the 32 sums from `first` on; a lane has two words of b for each tile."""
    for j in unroll(8):
        _add_product(a, (words[2 * j], words[2 * j + 1]), sums, first + 4 * j)


@inline
def as_left(x, t):
    """Return the left side of product t of four over the 64 columns of a result, in float16.

    Of those that a lane holds, it has columns 16 r + 4 t to 16 r + 4 t + 3.
    """
    at = 16 * (t & 1) + (t >> 1)
    return (
        pack_f16(x[at], x[at + 4]), pack_f16(x[at + 2], x[at + 6]),
        pack_f16(x[at + 8], x[at + 12]), pack_f16(x[at + 10], x[at + 14]),
    )  # fmt: skip
