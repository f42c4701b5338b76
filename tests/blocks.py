"""Blocks of every tensor format for tests: random, edge cases, and quantized data."""

import gguf
import numpy as np
import numpy.typing as npt

from jitllm.kernels import formats

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

# Where the float16 numbers of a quantized block stand.
HALVES = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q2_K": (80, 82),
    "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,),
    "TQ1_0": (52,), "TQ2_0": (64,), "Q1_0": (0,), "Q2_0": (0,), "IQ2_XXS": (0,), "IQ2_XS": (0,),
    "IQ2_S": (0,), "IQ3_XXS": (0,), "IQ3_S": (0,), "IQ1_S": (0,), "IQ1_M": (), "MXFP4": (),
    "NVFP4": (),
}  # fmt: skip


def _put(blocks: Bytes, start: int, values: npt.NDArray[np.float16]) -> None:
    blocks[:, start : start + 2] = values.astype("<f2")[:, None].view(np.uint8)


def _put_scales(name: str, blocks: Bytes, values: npt.NDArray[np.float16]) -> None:
    """Write float16 scales to every block, or what comes near where a type has other scales."""
    for start in HALVES[name]:
        _put(blocks, start, values)
    if name == "IQ1_M":  # 4 bits of d in the upper half of every second byte from 49 on
        word = values.view(np.uint16)
        for i in range(4):
            part = (word >> np.uint16(4 * i) & np.uint16(15)).astype(np.uint8)
            blocks[:, 49 + 2 * i] = blocks[:, 49 + 2 * i] & 15 | part << np.uint8(4)
    if name in ("MXFP4", "NVFP4"):  # exponents of 8 or 4 bits
        low, bias = (1, 128) if name == "MXFP4" else (3, 9)
        size = np.abs(values.astype(np.float64))
        exponent = np.log2(np.maximum(size, 2.0**-24))
        code = np.clip(np.round(exponent + bias), 0, 254 if low == 1 else 14).astype(np.uint8)
        if low == 1:
            blocks[:, 0] = code
        else:
            blocks[:, :4] = blocks[:, :4] & 7 | (code << np.uint8(3))[:, None]


def _floats(name: str, values: Floats) -> Bytes:
    """Store float32 values in a float format, cutting off what does not fit."""
    if name == "F16":
        return values.astype("<f2").view(np.uint8).reshape(-1, 2)
    raw = values.astype("<f4").view(np.uint8).reshape(-1, 4)
    return raw[:, 2:].copy() if name == "BF16" else raw


def random_blocks(name: str, n: int, rng: np.random.Generator) -> Bytes:
    """Return uint8 [n, block_bytes]: codes and scales of all kinds, values of ordinary size.

    The float16 numbers are about 0.01 in size, of both signs, and one in sixteen is zero.
    """
    fmt = formats.get(name)
    if not fmt.planes:
        return _floats(name, rng.standard_normal(n).astype(np.float32))
    blocks = rng.integers(0, 256, (n, fmt.block_bytes), dtype=np.uint8)
    size = rng.uniform(0.002, 0.02, n) * rng.choice([-1.0, 1.0], n)
    _put_scales(name, blocks, np.where(rng.integers(0, 16, n) == 0, 0.0, size).astype(np.float16))
    for start in HALVES[name][1:]:
        _put(blocks, start, rng.permutation(size).astype(np.float16))
    return blocks


def edge_blocks(name: str) -> Bytes:
    """Return uint8 [m, block_bytes]: all bits 0 or 1 (but for finite scales) and extreme scales.

    Scales are zero, minus zero, one, minus two, the smallest subnormal and the largest float16.
    """
    fmt = formats.get(name)
    if not fmt.planes:
        return _floats(name, np.array([0, -0.0, 1, -2, 2.0**-24, 65504], np.float32))
    scales = np.array([0, -0.0, 1, -2, 2.0**-24, 65504], np.float16)
    blocks = np.repeat(np.array([0, 255], np.uint8), len(scales))[:, None]
    blocks = np.repeat(blocks, fmt.block_bytes, axis=1)
    _put_scales(name, blocks, np.tile(scales, 2))
    return blocks


def quantize(name: str, x: Floats) -> Bytes:
    """Return float32 [..., K] in format `name` as uint8 [..., bytes per row].

    `NotImplementedError` for the types that the gguf package only reads: the K types.
    """
    data = gguf.quants.quantize(x, gguf.GGMLQuantizationType[name])
    return np.ascontiguousarray(data).view(np.uint8)
