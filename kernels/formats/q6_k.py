"""Q6_K: value = d * sc * (code - 32), 256 weights a block, 16 a group.

======= =====================================================================
bytes   content
======= =====================================================================
0-127   low 4 bits of the codes: codes 128n+i and 128n+64+i, i < 64, in the
        low and high nibble of byte 64n+i
128-191 upper 2 bits: codes 128n+32j+i, i < 32, in bits 2j of byte 32n+i
192-207 16 int8 sc
208-209 float16 d
======= =====================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats._fields import Halves, fields, float16_at, groups
from jitllm.kernels.formats._pack import half_bytes, pack
from jitllm.kernels.formats._search import best_scale, linear, signed_super, spread

FORMAT = Format(
    name="Q6_K",
    id=14,
    block_size=256,
    block_bytes=210,
    planes=(4, 2),
    group=16,
    scales="k_d",
    center=32,
)


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 210] as float32 [n, 256]."""
    scale = float16_at(blocks, 208) * blocks[:, 192:208].view(np.int8).astype(np.float32)
    codes = fields(blocks[:, :128], 4, 64) | fields(blocks[:, 128:192], 2, 32) << np.uint8(4)
    weights = groups(codes.astype(np.float32) - np.float32(32), 16)
    return (scale[..., None] * weights).reshape(-1, 256)


def quantize(x: Floats, importance: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 210], of float32 [n, 256]; errors weighed by importance."""
    g = groups(x, 16)
    weight = spread(x, importance, x * x).reshape(g.shape)
    scale = best_scale(g, weight, np.arange(-32.9, -31.05, 0.1), linear(-32, 31))
    d, sc, scaled = signed_super(g, scale, -128, 127)
    codes = (np.clip(np.rint(scaled), -32, 31) + 32).astype(np.uint8).reshape(len(x), 256)
    return np.concatenate(
        [
            pack(codes & np.uint8(15), 4, 64),
            pack(codes >> np.uint8(4), 2, 32),
            sc.astype(np.int8).view(np.uint8),
            half_bytes(d),
        ],
        axis=1,
    )


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    # a byte must widen before it is shifted
    half[0] = block[209]
    half[0] = half[0] << 8 | block[208]
    half[1] = 0
    for i in range(16):
        sc[i] = block[192 + i]
        mn[i] = 0
    for n in range(2):
        for j in range(2):
            for i in range(32):
                first, second = block[64 * n + i] >> (4 * j), block[64 * n + 32 + i] >> (4 * j)
                upper = block[128 + 32 * n + i] >> (4 * j)
                codes[128 * n + 64 * j + i] = first & 15 | (upper & 3) << 4
                codes[128 * n + 64 * j + 32 + i] = second & 15 | (upper >> 2 & 3) << 4
