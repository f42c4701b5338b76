"""F16: the IEEE 754 binary16 number itself, little-endian.

======= =====================================================================
bytes   content
======= =====================================================================
0-1     value
======= =====================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format

FORMAT = Format("F16", 1, 1, 2)


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 2] as float32 [n, 1]."""
    return blocks.view(np.dtype("<f2")).astype(np.float32)


def quantize(x: Floats, _: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 2], of float32 [n, 1]."""
    return x.astype("<f2").view(np.uint8).reshape(-1, 2)
