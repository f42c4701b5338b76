"""TQ1_0: value = d * (code - 1), 256 weights a block.

Five codes t0..t4 of 0, 1 or 2 make a byte of about 256 / 243 * (t0 * 81 + ... + t4): the code that
stands at place k is the upper part of 3 * (byte * 3^k mod 256).

======= ============================================
bytes   content
======= ============================================
0-31    5 codes a byte: codes 32k+i in byte i
32-47   5 codes a byte: codes 160+16k+i in byte 32+i
48-51   4 codes a byte: codes 240+4k+i in byte 48+i
52-53   float16 d
======= ============================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats import _values as values
from jitllm.kernels.formats._fields import Halves
from jitllm.kernels.formats._pack import half_bytes, ternary_codes

FORMAT = Format(
    name="TQ1_0",
    id=34,
    block_size=256,
    block_bytes=54,
    planes=(2,),
    scales="block",
    center=1,
)


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 54] as float32 [n, 256]."""
    return values.dequantize(FORMAT, unpack_block, blocks)


def quantize(x: Floats, _: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 54], of float32 [n, 256]."""
    scale, codes = ternary_codes(x)
    parts = []
    for start, end, lane, digits in ((0, 160, 32, 5), (160, 240, 16, 5), (240, 256, 4, 4)):
        power = np.array([81, 27, 9, 3, 1][:digits], np.uint16)[:, None]
        number = (codes[:, start:end].reshape(-1, digits, lane) * power).sum(axis=1)
        parts.append(((number * 256 + 242) // 243).astype(np.uint8))  # rounded up
    return np.concatenate([*parts, half_bytes(scale)], axis=1)


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    half[0] = np.int32(block[52]) | np.int32(block[53]) << 8
    power = 1
    for k in range(5):
        for i in range(32):
            codes[32 * k + i] = (np.int32(block[i]) * power & 255) * 3 >> 8
        for i in range(16):
            codes[160 + 16 * k + i] = (np.int32(block[32 + i]) * power & 255) * 3 >> 8
        if k < 4:
            for i in range(4):
                codes[240 + 4 * k + i] = (np.int32(block[48 + i]) * power & 255) * 3 >> 8
        power *= 3
