"""IQ4_NL: value = d * table[code], 32 weights a block.

======= =======================================================================
bytes   content
======= =======================================================================
0-1     float16 d
2-17    16 bytes: code j in the low nibble of byte j, code 16+j in the high one
======= =======================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats import _values as values
from jitllm.kernels.formats._fields import Halves
from jitllm.kernels.formats._pack import half_bytes, inverse, pack, peak
from jitllm.kernels.formats._search import best_scale, from_table, nearest_index, spread

FORMAT = Format(
    name="IQ4_NL",
    id=20,
    block_size=32,
    block_bytes=18,
    planes=(4,),
    scales="d",
    table=(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113),
)


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 18] as float32 [n, 32]."""
    return values.dequantize(FORMAT, unpack_block, blocks)


def quantize(x: Floats, importance: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 18], of float32 [n, 32]; errors weighed by importance."""
    weight = spread(x, importance, x * x)
    scale = best_scale(x, weight, (127.0, *range(-134, -119)), from_table(FORMAT.table))
    codes = nearest_index(FORMAT.table, x * inverse(scale[:, None]))
    return np.concatenate([half_bytes(scale), pack(codes, 4, 16)], axis=1)


def quantize_plain(x: Floats) -> Bytes:
    """Return the blocks, uint8 [n, 18], of float32 [n, 32]: one scale is tried, as for caches.

    The peak becomes the first entry of the table, then the scale is fitted to the codes by least
    squares, sums in the order of columns.
    """
    codes = nearest_index(FORMAT.table, x * inverse(peak(x) / np.float32(FORMAT.table[0])))
    level = np.array(FORMAT.table, np.float32)[codes]
    part = x * x * level
    cross, square = np.zeros((2, len(x)), np.float32)
    for i in range(FORMAT.block_size):
        cross = cross + part[:, i] * x[:, i]
        square = square + part[:, i] * level[:, i]
    scale = np.where(square > 0, cross / np.where(square > 0, square, 1), 0)
    return np.concatenate([half_bytes(scale.astype(np.float32)), pack(codes, 4, 16)], axis=1)


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    half[0] = np.int32(block[0]) | np.int32(block[1]) << 8
    for i in range(16):
        codes[i] = block[2 + i] & 15
        codes[16 + i] = block[2 + i] >> 4
