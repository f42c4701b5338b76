"""Q3_K: value = d * (sc - 32) * (code - 4), 256 weights a block, 16 a group.

======= =====================================================================
bytes   content
======= =====================================================================
0-31    bit 2 of the codes: code 32j+i in bit j of byte i
32-95   2 bits a code: codes 128n+32j+i, i < 32, in bits 2j of byte 32n+i
96-107  6-bit sc: sc 0-7 and 8-15 have their low 4 bits in the low and
        high nibbles of the first 8 bytes, sc 4j+i, i < 4, its upper 2
        in bits 2j of byte 8+i
108-109 float16 d
======= =====================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats._fields import Halves, fields, float16_at, groups
from jitllm.kernels.formats._pack import half_bytes, pack
from jitllm.kernels.formats._search import best_scale, linear, signed_super, spread

FORMAT = Format(
    name="Q3_K",
    id=11,
    block_size=256,
    block_bytes=110,
    planes=(2, 1),
    group=16,
    scales="k_d",
    center=4,
)


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 110] as float32 [n, 256]."""
    packed = blocks[:, 96:108]
    sc = fields(packed[:, :8], 4, 8) | fields(packed[:, 8:], 2, 4) << np.uint8(4)
    scale = float16_at(blocks, 108) * (sc.astype(np.float32) - np.float32(32))
    codes = fields(blocks[:, 32:96], 2, 32) | fields(blocks[:, :32], 1, 32) << np.uint8(2)
    weights = groups(codes.astype(np.float32) - np.float32(4), 16)
    return (scale[..., None] * weights).reshape(-1, 256)


def quantize(x: Floats, importance: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 110], of float32 [n, 256]; errors weighed by importance."""
    g = groups(x, 16)
    weight = spread(x, importance, np.abs(x)).reshape(g.shape)
    scale = best_scale(g, weight, np.arange(-4.9, -3.05, 0.1), linear(-4, 3))
    d, sc, scaled = signed_super(g, scale, -32, 31)
    codes = (np.clip(np.rint(scaled), -4, 3) + 4).astype(np.uint8).reshape(len(x), 256)
    six = (sc + 32).astype(np.uint8)
    return np.concatenate(
        [
            pack(codes >> np.uint8(2), 1, 32),
            pack(codes & np.uint8(3), 2, 32),
            pack(six & np.uint8(15), 4, 8),
            pack(six >> np.uint8(4), 2, 4),
            half_bytes(d),
        ],
        axis=1,
    )


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    # a byte must widen before it is shifted
    half[0] = block[109]
    half[0] = half[0] << 8 | block[108]
    half[1] = 0
    for i in range(16):
        six = (
            block[96 + i % 8] >> (4 * (i // 8)) & 15
            | (block[104 + i % 4] >> (2 * (i // 4)) & 3) << 4
        )
        six ^= 32
        sc[i] = six | (six & 32) * 6  # sc - 32 as an int8: its sign fills bits 6 and 7
        mn[i] = 0
    for n in range(2):
        for j in range(4):
            for i in range(32):
                bit = block[i] >> (4 * n + j) & 1
                codes[128 * n + 32 * j + i] = block[32 + 32 * n + i] >> (2 * j) & 3 | bit << 2
