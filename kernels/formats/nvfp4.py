"""NVFP4: value = d / 2 * table[code], 64 weights a block, 16 a group.

The table holds twice the E2M1 numbers; d is an unsigned E4M3 number, 0 for the code of NaN. A
second scale, for the whole tensor, may stand in a tensor of its own (`<name>.scale`).

======= ===========================================================================
bytes   content
======= ===========================================================================
0-3     d of the 4 groups (UE4M3)
4-35    per group 8 bytes: code j in the low nibble of byte j, code 8+j in the high
======= ===========================================================================
"""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats import _values as values
from jitllm.kernels.formats._fields import Halves
from jitllm.kernels.formats._pack import inverse, pack
from jitllm.kernels.formats._search import nearest_index


def _half_d() -> Halves:
    """Return the float16 bits of d / 2 for every byte: both ranges fit."""
    code = np.arange(256)
    exponent, mantissa = code >> 3 & 15, (code & 7).astype(np.float64)
    normal = (1 + mantissa / 8) * 2.0 ** (exponent - 7)
    d = np.where(exponent == 0, mantissa * 2.0**-9, normal)
    d[[0, 127]] = 0
    return (d / 2).astype(np.float16).view(np.uint16)


HALF_D = _half_d()
FORMAT = Format(
    name="NVFP4",
    id=40,
    block_size=64,
    block_bytes=36,
    planes=(4,),
    group=16,
    scales="d16",
    table=(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12),
)


def dequantize(blocks: Bytes) -> Floats:
    """Return the values of uint8 blocks [n, 36] as float32 [n, 64]."""
    return values.dequantize(FORMAT, unpack_block, blocks)


def quantize(x: Floats, importance: Floats | None = None) -> Bytes:
    """Return the blocks, uint8 [n, 36], of float32 [n, 64]; errors weighed by importance."""
    g = x.reshape(-1, 16)
    weight = np.ones_like(g) if importance is None else importance.reshape(-1, 16)
    half_d = HALF_D[:127].view(np.float16).astype(np.float32)
    # the scale that makes the largest number 6, or one of its neighbours
    nearest = nearest_index(tuple(half_d), np.abs(g).max(axis=-1) / np.float32(12)).astype(np.int64)
    scale = np.zeros(len(g), np.uint8)
    codes, least = np.zeros(g.shape, np.uint8), np.full(len(g), np.inf, np.float32)
    for step in (0, -1, 1):
        candidate = np.clip(nearest + step, 0, 126)
        d = half_d[candidate, None]
        size = nearest_index(FORMAT.table[:8], np.abs(g) * inverse(d))
        off = np.abs(g) - d * np.array(FORMAT.table, np.float32)[size]
        error = (weight * off * off).sum(axis=-1)
        better = error < least
        least, scale = np.where(better, error, least), np.where(better, candidate, scale)
        codes[better] = size[better]
    codes |= np.signbit(g).astype(np.uint8) << np.uint8(3)
    blocks = pack(codes, 4, 8).reshape(len(x), 32)
    return np.concatenate([scale.astype(np.uint8).reshape(len(x), 4), blocks], axis=1)


def unpack_block(block: Bytes, codes: Bytes, half: Halves, sc: Bytes, mn: Bytes) -> None:
    """Fill the codes and scales of one block; see `jitllm.kernels.formats.unpack_block`."""
    for g in range(4):
        half[g] = HALF_D[block[g]]
        for i in range(8):
            codes[16 * g + i] = block[4 + 8 * g + i] & 15
            codes[16 * g + 8 + i] = block[4 + 8 * g + i] >> 4
