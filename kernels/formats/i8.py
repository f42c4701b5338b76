"""I8: whole numbers of 8 bits in two's complement; tables, no weights.

======= =====================================================================
bytes   content
======= =====================================================================
0       value
======= =====================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format

FORMAT = Format("I8", 24, 1, 1, scales="whole")


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 1] as float32 [n, 1], rounded to it."""
    return blocks.view(np.dtype("i1")).astype(np.float32)
