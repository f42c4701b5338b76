"""IQ3_S: value = d * (2 s + 1) * table[code], 256 weights a block, 32 a group.

The code of a weight is the grid's level (0 to 7), plus 8 if its sign is minus.

======= ============================================
bytes   content
======= ============================================
0-1     float16 d
2-65    lower 8 bits of the grid number of 4 weights
66-73   upper bit of 8 grid numbers, low bits first
74-105  signs of 8 weights, one bit each
106-109 4 bits s per group, low nibble first
======= ============================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats import _values as values
from jitllm.kernels.formats._fields import Halves
from jitllm.kernels.formats._grids import grid
from jitllm.kernels.formats._lattice import Lattice, weights_of_errors, without_signs
from jitllm.kernels.formats._pack import half_bytes, pack

GRID = grid("iq3_s")  # uint8 [512, 4]

FORMAT = Format(
    name="IQ3_S",
    id=21,
    block_size=256,
    block_bytes=110,
    planes=(4,),
    scales="k_d",
    table=(1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15),
)
LATTICE = Lattice(FORMAT, GRID, 15, (10.6, 11.9, 13.2, 14.5, 15.8, 17.1))


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 110] as float32 [n, 256]."""
    return values.dequantize(FORMAT, unpack_block, blocks)


def quantize(x: Floats, importance: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 110], of float32 [n, 256]; errors weighed by importance."""
    weight = weights_of_errors(x, importance)
    size, signs = without_signs(x, weight, even=False)
    fit = LATTICE.fit(size, weight)
    lower, upper = fit.numbers.astype(np.uint8), (fit.numbers >> 8).astype(np.uint8)
    return np.concatenate(
        [half_bytes(fit.d), lower, pack(upper, 1, 1), signs, pack(fit.s, 4, 1)], axis=1
    )


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    half[0] = np.int32(block[0]) | np.int32(block[1]) << 8
    for g in range(8):
        sc[g] = 2 * (block[106 + g // 2] >> (4 * (g % 2)) & 15) + 1
        mn[g] = 0
    for part in range(64):
        high = np.int32(block[66 + part // 8]) >> (part % 8) & 1
        number, signs = (
            np.int32(block[2 + part]) | high << 8,
            block[74 + part // 2] >> (4 * (part % 2)),
        )
        for j in range(4):
            codes[4 * part + j] = GRID[number, j] + 8 * (signs >> j & 1)
