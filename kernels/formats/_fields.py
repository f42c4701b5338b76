"""Read the parts of many blocks at once with NumPy; shared by the formats' `dequantize`."""

import numpy as np
import numpy.typing as npt

from jitllm.kernels.formats import Bytes, Floats

Halves = npt.NDArray[np.uint16]


def float16_at(blocks: Bytes, start: int) -> Floats:
    """Return the float16 at byte `start` of every block as float32 [n, 1]."""
    pair = np.ascontiguousarray(blocks[:, start : start + 2])
    return pair.view(np.dtype("<f2")).astype(np.float32)


def fields(data: Bytes, width: int, lane: int) -> Bytes:
    """Cut bytes into `width`-bit fields, low bits first, and return them one a byte.

    Every run of `lane` bytes gives its `lane` lowest fields, then its `lane` next ones, and so on:
    shape [n, m] becomes [n, m * 8 / width].
    """
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    parts = data.reshape(len(data), data.shape[1] // lane, 1, lane) >> shifts
    return (parts & np.uint8((1 << width) - 1)).reshape(len(data), data.shape[1] * 8 // width)


def k_scales(packed: Bytes) -> tuple[Bytes, Bytes]:
    """Return scales and minimums, uint8 [n, 8] each, of 12 bytes that hold 16 six-bit numbers.

    Bytes 0-3 hold scales 0-3 and bytes 4-7 minimums 0-3 in their low 6 bits; bytes 8-11 hold the
    low 4 bits of scales 4-7 (low nibble) and minimums 4-7 (high nibble), whose upper 2 bits are
    the top bits of bytes 0-3 and 4-7.
    """
    first, last = packed[:, :8] & np.uint8(63), fields(packed[:, 8:], 4, 4)
    upper = packed[:, :8] >> np.uint8(6) << np.uint8(4)
    both = last | upper
    scales = np.concatenate([first[:, :4], both[:, :4]], axis=1)
    return scales, np.concatenate([first[:, 4:], both[:, 4:]], axis=1)


def groups(data: Floats, size: int) -> Floats:
    """Return [n, m] as [n, m / size, size], so that a group's scale can be spread over it."""
    return data.reshape(len(data), data.shape[1] // size, size)
