"""F32: the IEEE 754 binary32 number itself, little-endian.

======= =====================================================================
bytes   content
======= =====================================================================
0-3     value
======= =====================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format

FORMAT = Format("F32", 0, 1, 4)


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 4] as float32 [n, 1]."""
    return blocks.view(np.dtype("<f4")).astype(np.float32, copy=False)


def quantize(x: Floats, _: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 4], of float32 [n, 1]."""
    return np.ascontiguousarray(x, "<f4").view(np.uint8).reshape(-1, 4)
