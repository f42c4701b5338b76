"""BF16: the upper half of a binary32 number, little-endian.

======= =====================================================================
bytes   content
======= =====================================================================
0-1     sign, exponent and the 7 upper bits of the fraction
======= =====================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format

FORMAT = Format("BF16", 30, 1, 2)


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 2] as float32 [n, 1]."""
    upper = blocks.view(np.dtype("<u2")).astype(np.uint32)
    return (upper << np.uint32(16)).view(np.float32)


def quantize(x: Floats, _: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 2], of float32 [n, 1]."""
    word = np.ascontiguousarray(x, np.float32).view(np.uint32)
    odd = word >> np.uint32(16) & np.uint32(1)  # halves go to the even number
    upper = (word + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    return upper.astype("<u2").view(np.uint8).reshape(-1, 2)
