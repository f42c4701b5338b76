"""I64: whole numbers of 64 bits in two's complement, little-endian; tables, no weights.

======= =====================================================================
bytes   content
======= =====================================================================
0-7     value
======= =====================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format

FORMAT = Format("I64", 27, 1, 8, scales="whole")


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 8] as float32 [n, 1], rounded to it."""
    return blocks.view(np.dtype("<i8")).astype(np.float32)
