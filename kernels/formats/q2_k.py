"""Q2_K: value = d * sc * code - dmin * mn, 256 weights a block, 16 a group.

======= =====================================================================
bytes   content
======= =====================================================================
0-15    per group: sc in the low nibble, mn in the high one
16-79   2 bits a code: codes 128n+32j+i, i < 32, in bits 2j of byte 32n+i
80-81   float16 d
82-83   float16 dmin
======= =====================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats._fields import Halves, fields, float16_at, groups
from jitllm.kernels.formats._pack import half_bytes, pack
from jitllm.kernels.formats._search import range_starts, ranged_super, spread

FORMAT = Format(
    name="Q2_K",
    id=10,
    block_size=256,
    block_bytes=84,
    planes=(2,),
    group=16,
    scales="k_dm",
)


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 84] as float32 [n, 256]."""
    scale = float16_at(blocks, 80) * (blocks[:, :16] & np.uint8(15)).astype(np.float32)
    low = float16_at(blocks, 82) * (blocks[:, :16] >> np.uint8(4)).astype(np.float32)
    codes = groups(fields(blocks[:, 16:80], 2, 32).astype(np.float32), 16)
    return (scale[..., None] * codes - low[..., None]).reshape(-1, 256)


def quantize(x: Floats, importance: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 84], of float32 [n, 256]; errors weighed by importance."""
    g = groups(x, 16)
    weight = spread(x, importance, np.abs(x)).reshape(g.shape)
    starts = range_starts(-0.5, importance)
    d, dmin, sc, mn, codes = ranged_super(g, weight, 3, 15, starts, absolute=importance is None)
    return np.concatenate(
        [sc | mn << np.uint8(4), pack(codes, 2, 32), half_bytes(d), half_bytes(dmin)], axis=1
    )


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    # a byte must widen before it is shifted
    half[0] = block[81]
    half[0] = half[0] << 8 | block[80]
    half[1] = block[83]
    half[1] = half[1] << 8 | block[82]
    for i in range(16):
        sc[i] = block[i] & 15
        mn[i] = block[i] >> 4
    for n in range(2):
        for j in range(4):
            for i in range(32):
                codes[128 * n + 32 * j + i] = block[16 + 32 * n + i] >> (2 * j) & 3
