"""IQ2_XXS: value = d / 8 * (2 s + 1) * table[code], 256 weights a block, 32 a group.

The code of weight j of 8 is the grid's level (0 to 2), plus 3 if its sign is minus.

======= ============================================================================
bytes   content
======= ============================================================================
0-1     float16 d
2-65    per group 8 bytes: 4 grid numbers (8 weights each), then 32 bits: 4 x 7 bits
        that number the signs of 8 weights, 4 bits s
======= ============================================================================
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

GRID = grid("iq2_xxs")  # uint8 [256, 8]

FORMAT = Format(
    name="IQ2_XXS",
    id=16,
    block_size=256,
    block_bytes=66,
    planes=(2, 1),
    scales="k_d",
    table=(8, 25, 43, -8, -25, -43),
    factor=0.125,
)
LATTICE = Lattice(FORMAT, GRID, 15, (1.0, 3.2, 4.0, 4.8, 5.6, 6.4))


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 66] as float32 [n, 256]."""
    return values.dequantize(FORMAT, unpack_block, blocks)


def quantize(x: Floats, importance: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 66], of float32 [n, 256]; errors weighed by importance."""
    weight = weights_of_errors(x, importance)
    size, signs = without_signs(x, weight, even=True)
    fit = LATTICE.fit(size, weight)
    numbers = fit.numbers.astype(np.uint8).reshape(-1, 8, 4)
    words = sign_words(signs, fit.s).view(np.uint8).reshape(-1, 8, 4)
    groups = np.concatenate([numbers, words], axis=2).reshape(-1, 64)
    return np.concatenate([half_bytes(fit.d), groups], axis=1)


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    half[0] = np.int32(block[0]) | np.int32(block[1]) << 8
    for g in range(8):
        at = 2 + 8 * g
        low = np.int32(block[at + 4]) | np.int32(block[at + 5]) << 8
        word = low | np.int32(block[at + 6]) << 16 | np.int32(block[at + 7] & 15) << 24
        sc[g] = 2 * (block[at + 7] >> 4) + 1
        mn[g] = 0
        for part in range(4):
            signs, number = SIGNS[word >> (7 * part) & 127], block[at + part]
            for j in range(8):
                codes[32 * g + 8 * part + j] = GRID[number, j] + 3 * (signs >> j & 1)
