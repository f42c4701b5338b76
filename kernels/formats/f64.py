"""F64: the IEEE 754 binary64 number itself, little-endian.

======= =====================================================================
bytes   content
======= =====================================================================
0-7     value
======= =====================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format

FORMAT = Format("F64", 28, 1, 8, scales="none")


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 8] as float32 [n, 1], rounded to it."""
    with np.errstate(over="ignore"):  # what is too large is infinite
        return blocks.view(np.dtype("<f8")).astype(np.float32)
