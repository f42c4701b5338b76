"""Q4_K: value = d * sc * code - dmin * mn, 256 weights a block, 32 a group.

======= =====================================================================
bytes   content
======= =====================================================================
0-1     float16 d
2-3     float16 dmin
4-15    8 sc and 8 mn of 6 bits, packed as `_fields.k_scales` says
16-143  4 bits a code: codes 64j+i and 64j+32+i, i < 32, in the low and
        high nibble of byte 32j+i
======= =====================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats._fields import Halves, fields, float16_at, groups, k_scales
from jitllm.kernels.formats._pack import half_bytes, pack, pack_k_scales
from jitllm.kernels.formats._search import range_starts, ranged_super, spread

FORMAT = Format(
    name="Q4_K",
    id=12,
    block_size=256,
    block_bytes=144,
    planes=(4,),
    scales="k_dm",
)


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 144] as float32 [n, 256]."""
    sc, mn = k_scales(blocks[:, 4:16])
    scale = float16_at(blocks, 0) * sc.astype(np.float32)
    low = float16_at(blocks, 2) * mn.astype(np.float32)
    codes = groups(fields(blocks[:, 16:], 4, 32).astype(np.float32), 32)
    return (scale[..., None] * codes - low[..., None]).reshape(-1, 256)


def quantize(x: Floats, importance: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 144], of float32 [n, 256]; errors weighed by importance."""
    g = groups(x, 32)
    plain = np.abs(g) + np.sqrt((g * g).mean(axis=-1, keepdims=True))
    weight = spread(x, importance, plain.reshape(x.shape)).reshape(g.shape)
    d, dmin, sc, mn, codes = ranged_super(g, weight, 15, 63, range_starts(-1, importance))
    return np.concatenate(
        [half_bytes(d), half_bytes(dmin), pack_k_scales(sc, mn), pack(codes, 4, 32)], axis=1
    )


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    # a byte must widen before it is shifted
    half[0] = block[1]
    half[0] = half[0] << 8 | block[0]
    half[1] = block[3]
    half[1] = half[1] << 8 | block[2]
    for i in range(4):
        sc[i] = block[4 + i] & 63
        mn[i] = block[8 + i] & 63
        sc[4 + i] = block[12 + i] & 15 | block[4 + i] >> 6 << 4
        mn[4 + i] = block[12 + i] >> 4 | block[8 + i] >> 6 << 4
    for j in range(4):
        for i in range(32):
            codes[64 * j + i] = block[16 + 32 * j + i] & 15
            codes[64 * j + 32 + i] = block[16 + 32 * j + i] >> 4
