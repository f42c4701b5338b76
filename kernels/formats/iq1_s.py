"""IQ1_S: value = d / 8 * (2 s + 1) * table[code], 256 weights a block, 32 a group.

A weight is the grid's -1, 0 or 1, plus or minus 1/8; the table holds eight times that, codes 3 to 5
for minus.

======= =========================================================================
bytes   content
======= =========================================================================
0-1     float16 d
2-33    lower 8 bits of the grid number of 8 weights
34-49   per group 16 bits: upper 3 bits of 4 grid numbers, 3 bits s, 1 bit: minus
======= =========================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats import _values as values
from jitllm.kernels.formats._fields import Halves
from jitllm.kernels.formats._grids import grid
from jitllm.kernels.formats._lattice import Lattice, weights_of_errors
from jitllm.kernels.formats._pack import half_bytes

GRID = grid("iq1")  # uint8 [2048, 8]: 0 to 2 for -1 to 1

FORMAT = Format(
    name="IQ1_S",
    id=19,
    block_size=256,
    block_bytes=50,
    planes=(2, 1),
    scales="k_d",
    table=(-7, 1, 9, -9, -1, 7),
    factor=0.125,
)
LATTICE = Lattice(FORMAT, GRID, 7, (1.5, 2.2), shifts=(0, 3), shared=4)


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 50] as float32 [n, 256]."""
    return values.dequantize(FORMAT, unpack_block, blocks)


def quantize(x: Floats, importance: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 50], of float32 [n, 256]; errors weighed by importance."""
    fit = LATTICE.fit(x, weights_of_errors(x, importance))
    words = fit.s.astype(np.int64) << 12 | fit.shifts[:, ::4] << 15
    for part in range(4):
        words |= fit.numbers[:, part::4] >> 8 << (3 * part)
    lower = fit.numbers.astype(np.uint8)
    return np.concatenate([half_bytes(fit.d), lower, words.astype("<u2").view(np.uint8)], axis=1)


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    half[0] = np.int32(block[0]) | np.int32(block[1]) << 8
    for g in range(8):
        word = np.int32(block[34 + 2 * g]) | np.int32(block[35 + 2 * g]) << 8
        sc[g] = 2 * (word >> 12 & 7) + 1
        mn[g] = 0
        for part in range(4):
            number = np.int32(block[2 + 4 * g + part]) | (word >> (3 * part) & 7) << 8
            for j in range(8):
                codes[32 * g + 8 * part + j] = GRID[number, j] + 3 * (word >> 15)
