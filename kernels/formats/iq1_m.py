"""IQ1_M: value = d / 8 * (2 s + 1) * table[code], 256 weights a block, 16 a group.

A weight is the grid's -1, 0 or 1, plus or minus 1/8; the table holds eight times that, codes 3 to 5
for minus.

======= ===============================================================================
bytes   content
======= ===============================================================================
0-31    lower 8 bits of the grid number of 8 weights
32-47   4 bits per 8 weights, low nibble first: upper 3 bits of the grid number, 1 bit:
        minus
48-55   4 x 16 bits: 3 bits s of 4 groups, low bits first, and 4 bits of float16 d,
        lowest in the first
======= ===============================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats import _values as values
from jitllm.kernels.formats._fields import Halves
from jitllm.kernels.formats._grids import grid
from jitllm.kernels.formats._lattice import Lattice, weights_of_errors
from jitllm.kernels.formats._pack import half_bytes, pack

GRID = grid("iq1")  # uint8 [2048, 8]: 0 to 2 for -1 to 1

FORMAT = Format(
    name="IQ1_M",
    id=29,
    block_size=256,
    block_bytes=56,
    planes=(2, 1),
    group=16,
    scales="k_d",
    table=(-7, 1, 9, -9, -1, 7),
    factor=0.125,
)
LATTICE = Lattice(FORMAT, GRID, 7, (1.3, 1.8), shifts=(0, 3))


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 56] as float32 [n, 256]."""
    return values.dequantize(FORMAT, unpack_block, blocks)


def quantize(x: Floats, importance: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 56], of float32 [n, 256]; errors weighed by importance."""
    fit = LATTICE.fit(x, weights_of_errors(x, importance))
    upper = (fit.numbers >> 8 | fit.shifts << 3).astype(np.uint8)
    words = half_bytes(fit.d).view("<u2") >> np.array([0, 4, 8, 12], np.uint16) << np.uint16(12)
    for j in range(4):
        words |= fit.s[:, j::4].astype(np.uint16) << np.uint16(3 * j)
    lower = fit.numbers.astype(np.uint8)
    return np.concatenate([lower, pack(upper, 4, 1), words.astype("<u2").view(np.uint8)], axis=1)


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    half[0] = 0
    for i in range(4):
        word = np.int32(block[48 + 2 * i]) | np.int32(block[49 + 2 * i]) << 8
        half[0] = half[0] | word >> 12 << (4 * i)
        for j in range(4):
            sc[4 * i + j] = 2 * (word >> (3 * j) & 7) + 1
            mn[4 * i + j] = 0
    for part in range(32):
        bits = np.int32(block[32 + part // 2]) >> (4 * (part % 2)) & 15
        number = np.int32(block[part]) | (bits & 7) << 8
        for j in range(8):
            codes[8 * part + j] = GRID[number, j] + 3 * (bits >> 3)
