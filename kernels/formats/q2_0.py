"""Q2_0: value = d * (code - 1), 64 weights a block.

======= =============================
bytes   content
======= =============================
0-1     float16 d
2-17    2 bits a code, low bits first
======= =============================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats import _values as values
from jitllm.kernels.formats._fields import Halves
from jitllm.kernels.formats._pack import half_bytes, pack, ternary_codes

FORMAT = Format(
    name="Q2_0",
    id=42,
    block_size=64,
    block_bytes=18,
    planes=(2,),
    scales="block",
    center=1,
)


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 18] as float32 [n, 64]."""
    return values.dequantize(FORMAT, unpack_block, blocks)


def quantize(x: Floats, _: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 18], of float32 [n, 64]."""
    scale, codes = ternary_codes(x)
    return np.concatenate([half_bytes(scale), pack(codes, 2, 1)], axis=1)


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    half[0] = np.int32(block[0]) | np.int32(block[1]) << 8
    for i in range(64):
        codes[i] = block[2 + i // 4] >> (2 * (i % 4)) & 3
