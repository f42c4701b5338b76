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
    "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,),
}  # fmt: skip


def _put(blocks: Bytes, start: int, values: npt.NDArray[np.float16]) -> None:
    blocks[:, start : start + 2] = values.astype("<f2")[:, None].view(np.uint8)


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
    for start in HALVES[name]:
        size = rng.uniform(0.002, 0.02, n) * rng.choice([-1.0, 1.0], n)
        _put(blocks, start, np.where(rng.integers(0, 16, n) == 0, 0.0, size).astype(np.float16))
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
    for start in HALVES[name]:
        _put(blocks, start, np.tile(scales, 2))
    return blocks


def quantize(name: str, x: Floats) -> Bytes:
    """Return float32 [..., K] in format `name` as uint8 [..., bytes per row].

    `NotImplementedError` for the types that the gguf package only reads: the K types.
    """
    data = gguf.quants.quantize(x, gguf.GGMLQuantizationType[name])
    return np.ascontiguousarray(data).view(np.uint8)
