"""IQ2_S: value = d / 8 * (2 s + 1) * table[code], 256 weights a block, 16 a group.

The code of weight j of 8 is the grid's level (0 to 2), plus 3 if its sign is minus.

======= ==============================================
bytes   content
======= ==============================================
0-1     float16 d
2-33    lower 8 bits of the grid number of 8 weights
34-65   signs of 8 weights, one bit each
66-73   upper 2 bits of 4 grid numbers, low bits first
74-81   4 bits s per group, low nibble first
======= ==============================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats import _values as values
from jitllm.kernels.formats._fields import Halves
from jitllm.kernels.formats._grids import grid
from jitllm.kernels.formats._lattice import Lattice, weights_of_errors, without_signs
from jitllm.kernels.formats._pack import half_bytes, pack

GRID = grid("iq2_s")  # uint8 [1024, 8]

FORMAT = Format(
    name="IQ2_S",
    id=22,
    block_size=256,
    block_bytes=82,
    planes=(2, 1),
    group=16,
    scales="k_d",
    table=(8, 25, 43, -8, -25, -43),
    factor=0.125,
)
LATTICE = Lattice(FORMAT, GRID, 15, (1.0, 3.2, 4.0, 4.8, 5.6, 6.4))


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 82] as float32 [n, 256]."""
    return values.dequantize(FORMAT, unpack_block, blocks)


def quantize(x: Floats, importance: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 82], of float32 [n, 256]; errors weighed by importance."""
    weight = weights_of_errors(x, importance)
    size, signs = without_signs(x, weight, even=False)
    fit = LATTICE.fit(size, weight)
    lower, upper = fit.numbers.astype(np.uint8), (fit.numbers >> 8).astype(np.uint8)
    return np.concatenate(
        [half_bytes(fit.d), lower, signs, pack(upper, 2, 1), pack(fit.s, 4, 1)], axis=1
    )


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    half[0] = np.int32(block[0]) | np.int32(block[1]) << 8
    for g in range(16):
        sc[g] = 2 * (block[74 + g // 2] >> (4 * (g % 2)) & 15) + 1
        mn[g] = 0
    for part in range(32):
        high = np.int32(block[66 + part // 4]) >> (2 * (part % 4)) & 3
        number, signs = np.int32(block[2 + part]) | high << 8, block[34 + part]
        for j in range(8):
            codes[8 * part + j] = GRID[number, j] + 3 * (signs >> j & 1)
