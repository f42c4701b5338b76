"""I32: whole numbers of 32 bits in two's complement, little-endian; tables, no weights.

======= =====================================================================
bytes   content
======= =====================================================================
0-3     value
======= =====================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format

FORMAT = Format("I32", 26, 1, 4, scales="whole")


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 4] as float32 [n, 1], rounded to it."""
    return blocks.view(np.dtype("<i4")).astype(np.float32)
