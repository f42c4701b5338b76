"""I16: whole numbers of 16 bits in two's complement, little-endian; tables, no weights.

======= =====================================================================
bytes   content
======= =====================================================================
0-1     value
======= =====================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format

FORMAT = Format("I16", 25, 1, 2, scales="whole")


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 2] as float32 [n, 1], rounded to it."""
    return blocks.view(np.dtype("<i2")).astype(np.float32)
