"""Values of blocks by way of `unpack_block`, for all blocks at once; shared by formats and twins.

An element that `unpack_block` handles is here a row: the same byte of every block. It may therefore
use no branches on data, and must widen bytes (`np.int32`) before it shifts them up.
"""

from collections.abc import Callable

import numpy as np

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats._fields import Halves


def unpack(
    fmt: Format, unpack_block: Callable[..., None], blocks: Bytes
) -> tuple[Bytes, Floats, Floats]:
    """Return codes, scales and offsets of blocks [n, block_bytes].

    Returns
    -------
    codes : uint8 [n, groups, group]
    scales, offsets : float32 [n, groups]
    """
    n, n_groups = len(blocks), fmt.block_size // fmt.group
    codes, half = np.empty((fmt.block_size, n), np.uint8), np.zeros((8, n), np.uint16)
    sc, mn = np.zeros((n_groups, n), np.uint8), np.zeros((n_groups, n), np.uint8)
    unpack_block(np.ascontiguousarray(blocks.T), codes, half, sc, mn)
    scales, offsets = _scales(fmt, half, sc, mn)
    shape = (n_groups, n)
    return (
        codes.T.reshape(n, n_groups, fmt.group),
        np.ascontiguousarray(np.broadcast_to(scales, shape).T, np.float32),
        np.ascontiguousarray(np.broadcast_to(offsets, shape).T, np.float32),
    )


def _scales(fmt: Format, half: Halves, sc: Bytes, mn: Bytes) -> tuple[Floats, Floats]:
    if fmt.scales == "e8m0":
        e = half[:1].astype(np.int32)
        bits = np.where(e > 1, (e - 1) << 23, np.where(e > 0, 0x00400000, 0x00200000))
        return bits.astype(np.uint32).view(np.float32), np.zeros(1, np.float32)
    d = half.view(np.float16).astype(np.float32)
    if fmt.scales == "k_d":
        integers = sc.view(np.int8).astype(np.float32)
        return d[0] * np.float32(fmt.factor) * integers, np.zeros(1, np.float32)
    if fmt.scales == "k_dm":
        return d[0] * sc.astype(np.float32), -(d[1] * mn.astype(np.float32))
    if fmt.scales == "d16":
        return d[: len(sc)], np.zeros(1, np.float32)
    return d[:1], d[1:2] if fmt.scales == "dm" else np.zeros(1, np.float32)


def meanings(fmt: Format, codes: Bytes) -> Floats:
    """Return what codes stand for before scaling, as float32."""
    if fmt.table:
        return np.array(fmt.table, np.float32)[codes]
    return codes.astype(np.float32) - np.float32(fmt.center)


def dequantize(fmt: Format, unpack_block: Callable[..., None], blocks: Bytes) -> Floats:
    """Return the values of blocks [n, block_bytes] as float32 [n, block_size]; no offsets."""
    codes, scales, _ = unpack(fmt, unpack_block, blocks)
    return (scales[..., None] * meanings(fmt, codes)).reshape(-1, fmt.block_size)
