"""MXFP4: value = 2^(e - 128) * table[code], 32 weights a block.

OCP Microscaling (MX) v1.0; the table holds twice the E2M1 numbers.

======= =======================================================================
bytes   content
======= =======================================================================
0       e, the shared exponent (E8M0)
1-16    16 bytes: code j in the low nibble of byte j, code 16+j in the high one
======= =======================================================================
"""

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats import _values as values
from jitllm.kernels.formats._fields import Halves

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


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    half[0] = block[0]
    for i in range(16):
        codes[i] = block[1 + i] & 15
        codes[16 + i] = block[1 + i] >> 4
