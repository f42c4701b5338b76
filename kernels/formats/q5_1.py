"""Q5_1: value = d * code + m, 32 weights a block.

======= =====================================================================
bytes   content
======= =====================================================================
0-1     float16 d
2-3     float16 m
4-7     32 bits, little-endian: bit j is bit 4 of code j
8-23    16 bytes: code j in the low nibble of byte j, code 16+j in the high one
======= =====================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats._fields import Halves, fields, float16_at
from jitllm.kernels.formats._pack import half_bytes, pack, ranged_codes
from jitllm.kernels.formats._search import ranged_by_importance

FORMAT = Format(
    name="Q5_1",
    id=7,
    block_size=32,
    block_bytes=24,
    planes=(4, 1),
    scales="dm",
)


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 24] as float32 [n, 32]."""
    codes = fields(blocks[:, 8:], 4, 16) | fields(blocks[:, 4:8], 1, 1) << np.uint8(4)
    return float16_at(blocks, 0) * codes.astype(np.float32) + float16_at(blocks, 2)


def quantize(x: Floats, importance: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 24], of float32 [n, 32]; errors weighed by importance."""
    if importance is None:
        scale, low, codes = ranged_codes(x, 31)
    else:
        scale, low, codes = ranged_by_importance(x, importance, 31)
    upper, lower = pack(codes >> np.uint8(4), 1, 1), pack(codes & np.uint8(15), 4, 16)
    return np.concatenate([half_bytes(scale), half_bytes(low), upper, lower], axis=1)


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    # a byte must widen before it is shifted
    half[0] = block[1]
    half[0] = half[0] << 8 | block[0]
    half[1] = block[3]
    half[1] = half[1] << 8 | block[2]
    for i in range(16):
        low, high = block[4 + i // 8] >> (i % 8), block[6 + i // 8] >> (i % 8)
        codes[i] = block[8 + i] & 15 | (low & 1) << 4
        codes[16 + i] = block[8 + i] >> 4 | (high & 1) << 4
