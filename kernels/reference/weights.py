"""Twins of the kernels that read weights; callers find them in `jitllm.kernels.reference`."""

from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.kernels import formats
from jitllm.kernels.formats._values import meanings, unpack

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[Any]

QUANT_GROUP = 32  # activations that share a scale
QUANT_MIN = np.float32(1e-30)  # a group whose largest activation is no larger counts as zero


def f32(values: npt.NDArray[Any]) -> Floats:
    """Round to float32; what is too large becomes infinite without a warning."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def f64(values: npt.NDArray[Any]) -> Doubles:
    """Widen to float64."""
    return values.astype(np.float64)


def split(x: npt.NDArray[Any], parts: int) -> npt.NDArray[Any]:
    """Return [T, width] as [T, parts, width / parts]; T may be 0."""
    return x.reshape(len(x), parts, x.shape[1] // parts)


def checked(indices: Ints, limit: int, what: str) -> Ints:
    """Return `indices`; `ValueError` unless all are in 0..limit-1."""
    if indices.size and not (0 <= indices.min() and indices.max() < limit):
        raise ValueError(f"{what} numbers must be in 0..{limit - 1}, got {indices}")
    return indices


def quantize_activations(x: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Round every 32 activations to 8-bit codes with a common scale, in float32.

    d = max|x| / 127 and code = x * (1 / d) rounded half to even. Where max|x| is at most 1e-30,
    near which 1 / d overflows, d and the codes are 0. Where it is not finite the codes are 0 and d
    is not finite, so that the product with any weight is not finite either.

    Parameters
    ----------
    x : float32 [T, K]
        K is padded with zeros to a multiple of 32.

    Returns
    -------
    codes : int8 [T, K padded]
    scales : float32 [T, K padded / 32]
    """
    padded = np.pad(x.astype(np.float32, copy=False), ((0, 0), (0, -x.shape[1] % QUANT_GROUP)))
    groups = split(padded, padded.shape[1] // QUANT_GROUP)
    top = np.abs(groups).max(axis=-1, initial=0)
    d = np.where(top <= QUANT_MIN, np.float32(0), top / np.float32(127))
    usable = np.isfinite(d) & (d > 0)
    inverse = np.divide(np.float32(1), d, out=np.zeros_like(d), where=usable)
    codes = np.zeros(groups.shape, np.int8)
    codes[usable] = np.rint(groups[usable] * inverse[usable][:, None])
    return codes.reshape(padded.shape), d


def linear_parts(name: str, data: Bytes) -> tuple[Bytes, Floats, Floats]:
    """Return codes, scales and offsets of a quantized tensor, group by group.

    A weight is scale * (code - center) + offset in float32, or scale * table[code]; see the format.

    Parameters
    ----------
    name : str
        Name of a quantized format.
    data : uint8 array
        n whole blocks, as in the file.

    Returns
    -------
    codes : uint8 [n * groups per block, group]
    scales, offsets : float32 [n * groups per block]
    """
    fmt = formats.get(name)
    blocks = data.reshape(-1, fmt.block_bytes)
    codes, scales, offsets = unpack(fmt, formats.unpack_block(name), blocks)
    return codes.reshape(-1, fmt.group), scales.reshape(-1), offsets.reshape(-1)


def _fast_matmul(x: Floats, name: str, data: Bytes, shape: tuple[int, int]) -> Floats:
    fmt, (n, k) = formats.get(name), shape
    codes, scales, offsets = linear_parts(name, data)
    weights = meanings(fmt, codes).astype(np.int32).reshape(n, k // fmt.group, fmt.group)
    scales, offsets = scales.reshape(n, k // fmt.group), offsets.reshape(n, k // fmt.group)
    x_codes, x_scales = quantize_activations(x)
    inputs = split(x_codes.astype(np.int32), k // fmt.group)
    out = np.zeros((len(x), n), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        for g in range(k // fmt.group):
            dx = x_scales[:, g * fmt.group // QUANT_GROUP, None]
            dot = (inputs[:, g] @ weights[:, g].T).astype(np.float32)
            total = inputs[:, g].sum(axis=-1, keepdims=True).astype(np.float32)
            out += scales[:, g] * dx * dot + offsets[:, g] * dx * total
    return out


def matmul(
    x: Floats, name: str, data: Bytes, shape: tuple[int, int], *, precision: str = "fast"
) -> Floats:
    """Return x w^T for a weight matrix in the bytes of its format.

    Parameters
    ----------
    x : float32 [T, K]
    name : str
        Format of the weights.
    data : uint8 array
        The matrix as in the file.
    shape : (N, K)
    precision : str
        "exact": float32 x times dequantized weights, summed in float64. "fast": the same for
        float types; for quantized ones x is rounded by `quantize_activations`, and the sum over
        groups, in ascending order and float32, is of
        scale * dx * sum((code - center) * x_code) + offset * dx * sum(x_code), the inner sums
        exact in integers.

    Returns
    -------
    float32 [T, N]

    Raises
    ------
    ValueError
        If `precision` or `name` is unknown.
    """
    if precision not in ("fast", "exact"):
        raise ValueError(f"precision must be 'fast' or 'exact', got {precision!r}")
    if precision == "fast" and formats.get(name).planes:
        return _fast_matmul(x, name, data, shape)
    return f32(f64(x) @ f64(formats.dequantize(name, data, shape)).T)


def embed(tokens: Ints, name: str, data: Bytes, shape: tuple[int, int]) -> Floats:
    """Return the dequantized rows `tokens`, int [T], of a table of `shape` (V, K): [T, K].

    Raises `ValueError` for a token outside 0..V-1.
    """
    rows = data.reshape(shape[0], -1)[checked(tokens, shape[0], "token")]
    return formats.dequantize(name, rows, (len(tokens), shape[1]))


def expert_matmul(
    x: Floats,
    ids: Ints,
    name: str,
    data: Bytes,
    shape: tuple[int, int, int],
    *,
    precision: str = "fast",
) -> Floats:
    """Multiply every token by the matrices of its experts: float32 [T, k, N].

    Parameters
    ----------
    x : float32 [T, K] or [T, k, K]
        One input a token, or one for each of its experts.
    ids : int [T, k]
    name, data, precision
        As for `matmul`.
    shape : (E, N, K)

    Raises
    ------
    ValueError
        If an id is outside 0..E-1, or as `matmul`.
    """
    checked(ids, shape[0], "expert")
    experts = data.reshape(shape[0], -1)
    inputs = np.broadcast_to(x if x.ndim == 3 else x[:, None], (*ids.shape, shape[2]))
    out = np.empty((*ids.shape, shape[1]), np.float32)
    for e in np.unique(ids):
        chosen = ids == e
        out[chosen] = matmul(inputs[chosen], name, experts[e], shape[1:], precision=precision)
    return out
