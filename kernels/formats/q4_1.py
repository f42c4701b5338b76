"""Q4_1: value = d * code + m, 32 weights a block.

======= =====================================================================
bytes   content
======= =====================================================================
0-1     float16 d
2-3     float16 m
4-19    16 bytes: code j in the low nibble of byte j, code 16+j in the high one
======= =====================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats._fields import Halves, fields, float16_at
from jitllm.kernels.formats._pack import half_bytes, pack, ranged_codes
from jitllm.kernels.formats._search import ranged_by_importance

FORMAT = Format(
    name="Q4_1",
    id=3,
    block_size=32,
    block_bytes=20,
    planes=(4,),
    scales="dm",
)


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 20] as float32 [n, 32]."""
    codes = fields(blocks[:, 4:], 4, 16).astype(np.float32)
    return float16_at(blocks, 0) * codes + float16_at(blocks, 2)


def quantize(x: Floats, importance: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 20], of float32 [n, 32]; errors weighed by importance."""
    if importance is None:
        scale, low, codes = ranged_codes(x, 15)
    else:
        scale, low, codes = ranged_by_importance(x, importance, 15)
    return np.concatenate([half_bytes(scale), half_bytes(low), pack(codes, 4, 16)], axis=1)


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    # a byte must widen before it is shifted
    half[0] = block[1]
    half[0] = half[0] << 8 | block[0]
    half[1] = block[3]
    half[1] = half[1] << 8 | block[2]
    for i in range(16):
        codes[i] = block[4 + i] & 15
        codes[16 + i] = block[4 + i] >> 4
