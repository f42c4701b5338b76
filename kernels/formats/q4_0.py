"""Q4_0: value = d * (code - 8), 32 weights a block.

======= =====================================================================
bytes   content
======= =====================================================================
0-1     float16 d
2-17    16 bytes: code j in the low nibble of byte j, code 16+j in the high one
======= =====================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats._fields import Halves, fields, float16_at
from jitllm.kernels.formats._pack import half_bytes, pack, shifted_codes
from jitllm.kernels.formats._search import best_codes

FORMAT = Format(
    name="Q4_0",
    id=2,
    block_size=32,
    block_bytes=18,
    planes=(4,),
    scales="d",
    center=8,
)


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 18] as float32 [n, 32]."""
    codes = fields(blocks[:, 2:], 4, 16).astype(np.float32)
    return float16_at(blocks, 0) * (codes - np.float32(8))


def quantize(x: Floats, importance: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 18], of float32 [n, 32]; errors weighed by importance."""
    if importance is None:
        scale, codes = shifted_codes(x, 15)
    else:
        scale, codes = best_codes(x, importance, 8)
    return np.concatenate([half_bytes(scale), pack(codes, 4, 16)], axis=1)


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    # a byte must widen before it is shifted
    half[0] = block[1]
    half[0] = half[0] << 8 | block[0]
    half[1] = 0
    for i in range(16):
        codes[i] = block[2 + i] & 15
        codes[16 + i] = block[2 + i] >> 4
