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
