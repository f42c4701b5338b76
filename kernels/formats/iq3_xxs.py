"""IQ3_XXS: value = d / 4 * (2 s + 1) * table[code], 256 weights a block, 32 a group.

The code of a weight is the grid's level (0 to 7), plus 8 if its sign is minus.

======= ==========================================================================
bytes   content
======= ==========================================================================
0-1     float16 d
2-65    grid number of 4 weights
66-97   per group 32 bits: 4 x 7 bits that number the signs of 8 weights, 4 bits s
======= ==========================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats import _values as values
from jitllm.kernels.formats._fields import Halves
from jitllm.kernels.formats._grids import SIGNS, grid
from jitllm.kernels.formats._lattice import (
    Lattice,
    sign_words,
    weights_of_errors,
    without_signs,
)
from jitllm.kernels.formats._pack import half_bytes

GRID = grid("iq3_xxs")  # uint8 [256, 4]

FORMAT = Format(
    name="IQ3_XXS",
    id=18,
    block_size=256,
    block_bytes=98,
    planes=(4,),
    scales="k_d",
    table=(4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62),
    factor=0.25,
)
LATTICE = Lattice(FORMAT, GRID, 15, (10.6, 11.9, 13.2, 14.5, 15.8, 17.1))


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 98] as float32 [n, 256]."""
    return values.dequantize(FORMAT, unpack_block, blocks)


def quantize(x: Floats, importance: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 98], of float32 [n, 256]; errors weighed by importance."""
    weight = weights_of_errors(x, importance)
    size, signs = without_signs(x, weight, even=True)
    fit = LATTICE.fit(size, weight)
    words = sign_words(signs, fit.s).view(np.uint8)
    return np.concatenate([half_bytes(fit.d), fit.numbers.astype(np.uint8), words], axis=1)


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    half[0] = np.int32(block[0]) | np.int32(block[1]) << 8
    for g in range(8):
        at = 66 + 4 * g
        low = np.int32(block[at]) | np.int32(block[at + 1]) << 8
        word = low | np.int32(block[at + 2]) << 16 | np.int32(block[at + 3] & 15) << 24
        sc[g] = 2 * (block[at + 3] >> 4) + 1
        mn[g] = 0
        for part in range(4):
            signs = SIGNS[word >> (7 * part) & 127]
            for j in range(8):
                level = GRID[block[2 + 8 * g + 2 * part + j // 4], j % 4]
                codes[32 * g + 8 * part + j] = level + 8 * (signs >> j & 1)
