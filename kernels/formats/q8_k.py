"""Q8_K: value = d * code, 256 weights a block; activations beside K-quants, not for files.

======= =====================================================================
bytes   content
======= =====================================================================
0-3     float32 d
4-259   256 int8 codes
260-291 16 int16: sums of 16 codes each
======= =====================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format

FORMAT = Format("Q8_K", 15, 256, 292, scales="none")


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 292] as float32 [n, 256]."""
    d = np.ascontiguousarray(blocks[:, :4]).view(np.dtype("<f4")).astype(np.float32, copy=False)
    return d * blocks[:, 4:260].view(np.int8).astype(np.float32)
