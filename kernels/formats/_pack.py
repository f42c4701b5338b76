"""Write the parts of many blocks at once with NumPy; the inverse of `_fields`."""

import numpy as np

from jitllm.kernels.formats import Bytes, Floats

_BELOW_HALF = np.nextafter(np.float32(0.5), np.float32(0))


def half_bytes(values: Floats) -> Bytes:
    """Return float32 [n] or [n, 1] as float16, little-endian: uint8 [n, 2]."""
    return values.reshape(-1, 1).astype("<f2").view(np.uint8)


def pack(codes: Bytes, width: int, lane: int) -> Bytes:
    """Put `width`-bit codes, uint8 [n, m], into bytes [n, m * width / 8].

    Every run of `lane` bytes takes its lowest fields from the first `lane` codes, its next ones
    from the next, and so on.
    """
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    parts = codes.reshape(len(codes), -1, 8 // width, lane) << shifts
    packed: Bytes = np.bitwise_or.reduce(parts, axis=2).reshape(len(codes), -1)
    return packed


def pack_k_scales(sc: Bytes, mn: Bytes) -> Bytes:
    """Return 12 bytes of scales and minimums, uint8 [n, 8] each, as `_fields.k_scales` reads."""
    six, two = np.uint8(6), np.uint8(4)
    first = sc[:, :4] | sc[:, 4:] >> two << six
    second = mn[:, :4] | mn[:, 4:] >> two << six
    last = sc[:, 4:] & np.uint8(15) | mn[:, 4:] << two
    return np.concatenate([first, second, last], axis=1)


def inverse(scale: Floats) -> Floats:
    """Return 1 / scale, and 0 where the scale is too small to have an inverse."""
    usable = np.abs(scale) > np.float32(1e-37)
    return np.where(usable, 1 / np.where(usable, scale, 1), 0).astype(np.float32)


def round_away(x: Floats) -> Floats:
    """Return the nearest whole numbers, halves away from zero."""
    return np.trunc(x + np.copysign(_BELOW_HALF, x))


def peak(x: Floats) -> Floats:
    """Return of every row the first value of the largest size, its sign kept: [..., 1]."""
    return np.take_along_axis(x, np.abs(x).argmax(axis=-1, keepdims=True), axis=-1)


def shifted_codes(x: Floats, top: int) -> tuple[Floats, Bytes]:
    """Return scales [n, 1] and codes 0 to `top` with the center (top + 1) / 2; the peak is 0."""
    center = (top + 1) // 2
    scale = peak(x) / np.float32(-center)
    codes = np.trunc(x * inverse(scale) + np.float32(center + 0.5))
    return scale, np.clip(codes, 0, top).astype(np.uint8)


def ranged_codes(x: Floats, top: int) -> tuple[Floats, Floats, Bytes]:
    """Return scales and minimums [n, 1], and codes 0 to `top` from the minimum to the maximum."""
    low = x.min(axis=-1, keepdims=True)
    scale = (x.max(axis=-1, keepdims=True) - low) / np.float32(top)
    codes = np.trunc((x - low) * inverse(scale) + np.float32(0.5))
    return scale, low, np.clip(codes, 0, top).astype(np.uint8)


def ternary_codes(x: Floats) -> tuple[Floats, Bytes]:
    """Return scales [n, 1] and codes 0, 1 and 2, for minus the scale, zero and the scale."""
    scale = np.abs(x).max(axis=-1, keepdims=True)
    return scale, (round_away(x * inverse(scale)) + 1).astype(np.uint8)
