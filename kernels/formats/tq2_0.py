"""TQ2_0: value = d * (code - 1), 256 weights a block.

======= ================================================================
bytes   content
======= ================================================================
0-63    2 bits a code: codes 128j+32k+i in bits 2k of byte 32j+i, i < 32
64-65   float16 d
======= ================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats import _values as values
from jitllm.kernels.formats._fields import Halves
from jitllm.kernels.formats._pack import half_bytes, pack, ternary_codes

FORMAT = Format(
    name="TQ2_0",
    id=35,
    block_size=256,
    block_bytes=66,
    planes=(2,),
    scales="block",
    center=1,
)


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 66] as float32 [n, 256]."""
    return values.dequantize(FORMAT, unpack_block, blocks)


def quantize(x: Floats, _: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 66], of float32 [n, 256]."""
    scale, codes = ternary_codes(x)
    return np.concatenate([pack(codes, 2, 32), half_bytes(scale)], axis=1)


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    half[0] = np.int32(block[64]) | np.int32(block[65]) << 8
    for j in range(2):
        for k in range(4):
            for i in range(32):
                codes[128 * j + 32 * k + i] = block[32 * j + i] >> (2 * k) & 3
