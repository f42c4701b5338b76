"""Q8_1: value = d * code, 32 weights a block; activations beside Q4_1 and Q5_1, not for files.

======= =====================================================================
bytes   content
======= =====================================================================
0-1     float16 d
2-3     float16 d * sum of the codes
4-35    32 int8 codes
======= =====================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats._fields import float16_at

FORMAT = Format("Q8_1", 9, 32, 36, scales="none")


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 36] as float32 [n, 32]."""
    return float16_at(blocks, 0) * blocks[:, 4:].view(np.int8).astype(np.float32)
