"""MXFP4: value = 2^(e - 128) * table[code], 32 weights a block.

OCP Microscaling (MX) v1.0; the table holds twice the E2M1 numbers.

======= =======================================================================
bytes   content
======= =======================================================================
0       e, the shared exponent (E8M0)
1-16    16 bytes: code j in the low nibble of byte j, code 16+j in the high one
======= =======================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats import _values as values
from jitllm.kernels.formats._fields import Halves
from jitllm.kernels.formats._pack import pack

FORMAT = Format(
    name="MXFP4",
    id=39,
    block_size=32,
    block_bytes=17,
    planes=(4,),
    scales="e8m0",
    table=(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12),
)


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 17] as float32 [n, 32]."""
    return values.dequantize(FORMAT, unpack_block, blocks)


def quantize(x: Floats, _: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 17], of float32 [n, 32]."""
    size = np.abs(x).max(axis=-1, keepdims=True)
    # the largest number is 6 = 1.5 * 2^2; frexp's fraction is below 1, so 1 more is taken off
    exponent = np.where(size > 0, np.frexp(size)[1] - 3 + 127, 0)
    exponent = np.clip(exponent, 0, 254).astype(np.uint8)
    scaled = np.ldexp(x, 128 - exponent.astype(np.int32))
    distance = np.abs(np.array(FORMAT.table, np.float32) - scaled[..., None])
    return np.concatenate(
        [exponent, pack(distance.argmin(axis=-1).astype(np.uint8), 4, 16)], axis=1
    )


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    half[0] = block[0]
    for i in range(16):
        codes[i] = block[1 + i] & 15
        codes[16 + i] = block[1 + i] >> 4
