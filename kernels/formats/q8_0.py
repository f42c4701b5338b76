"""Q8_0: value = d * (code - 128), 32 weights a block.

======= =====================================================================
bytes   content
======= =====================================================================
0-1     float16 d
2-33    32 int8: code - 128
======= =====================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats._fields import Halves, float16_at
from jitllm.kernels.formats._pack import half_bytes, inverse, round_away

FORMAT = Format(
    name="Q8_0",
    id=8,
    block_size=32,
    block_bytes=34,
    planes=(8,),
    scales="d",
    center=128,
)


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 34] as float32 [n, 32]."""
    return float16_at(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)


def quantize(x: Floats, _: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 34], of float32 [n, 32]."""
    scale = np.abs(x).max(axis=-1, keepdims=True) / np.float32(127)
    codes = round_away(x * inverse(scale)).astype(np.int8)
    return np.concatenate([half_bytes(scale), codes.view(np.uint8)], axis=1)


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    # a byte must widen before it is shifted
    half[0] = block[1]
    half[0] = half[0] << 8 | block[0]
    half[1] = 0
    for i in range(32):
        codes[i] = block[2 + i] ^ 128  # int8 + 128
