"""Q1_0: value = d where the code is 1, -d where it is 0; 128 weights a block.

======= ============================
bytes   content
======= ============================
0-1     float16 d
2-17    1 bit a code, low bits first
======= ============================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats import _values as values
from jitllm.kernels.formats._fields import Halves
from jitllm.kernels.formats._pack import half_bytes, pack

FORMAT = Format(
    name="Q1_0",
    id=41,
    block_size=128,
    block_bytes=18,
    planes=(1,),
    scales="block",
    table=(-1, 1),
)


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 18] as float32 [n, 128]."""
    return values.dequantize(FORMAT, unpack_block, blocks)


def quantize(x: Floats, _: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 18], of float32 [n, 128]."""
    scale = np.abs(x).mean(axis=-1, keepdims=True)
    return np.concatenate([half_bytes(scale), pack((x >= 0).astype(np.uint8), 1, 1)], axis=1)


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    half[0] = np.int32(block[0]) | np.int32(block[1]) << 8
    for i in range(128):
        codes[i] = block[2 + i // 8] >> (i % 8) & 1
