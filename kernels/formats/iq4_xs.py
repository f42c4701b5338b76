"""IQ4_XS: value = d * (sc - 32) * table[code], 256 weights a block, 32 a group.

======= =============================================================================
bytes   content
======= =============================================================================
0-1     float16 d
2-3     upper 2 bits of the 8 sc, low bits first
4-7     lower 4 bits of the 8 sc, low nibble first
8-135   per group 16 bytes: code j in the low nibble of byte j, code 16+j in the high
======= =============================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats import _values as values
from jitllm.kernels.formats._fields import Halves
from jitllm.kernels.formats._pack import half_bytes, pack
from jitllm.kernels.formats._search import (
    best_scale,
    from_table,
    nearest_index,
    signed_super,
    spread,
)

FORMAT = Format(
    name="IQ4_XS",
    id=23,
    block_size=256,
    block_bytes=136,
    planes=(4,),
    scales="k_d",
    table=(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113),
)


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 136] as float32 [n, 256]."""
    return values.dequantize(FORMAT, unpack_block, blocks)


def quantize(x: Floats, importance: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 136], of float32 [n, 256]; errors weighed by importance."""
    g = x.reshape(-1, 8, 32)
    weight = spread(x, importance, x * x).reshape(g.shape)
    scale = best_scale(g, weight, (127.0, *range(-134, -119)), from_table(FORMAT.table))
    d, sc, scaled = signed_super(g, scale, -32, 31)
    codes = nearest_index(FORMAT.table, scaled).reshape(len(x), 256)
    six = (sc + 32).astype(np.uint8)
    upper, lower = pack(six >> np.uint8(4), 2, 1), pack(six & np.uint8(15), 4, 1)
    return np.concatenate([half_bytes(d), upper, lower, pack(codes, 4, 16)], axis=1)


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    half[0] = np.int32(block[0]) | np.int32(block[1]) << 8
    high = np.int32(block[2]) | np.int32(block[3]) << 8
    for g in range(8):
        low = block[4 + g // 2] >> (4 * (g % 2)) & 15
        sc[g] = ((low | (high >> (2 * g) & 3) << 4) - 32) & 255
        mn[g] = 0
        for i in range(16):
            codes[32 * g + i] = block[8 + 16 * g + i] & 15
            codes[32 * g + 16 + i] = block[8 + 16 * g + i] >> 4
