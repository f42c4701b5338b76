"""Twins of the kernels in `kernels/cpu/heads.py` and `head_matmul.py`, in plain NumPy."""

import numpy as np

from jitllm.kernels.reference.weights import Bytes, Floats, matmul, split


def head_matmul(
    x: Floats, name: str, data: Bytes, shape: tuple[int, int, int], *, precision: str = "fast"
) -> Floats:
    """Multiply each head of x by its own matrix: float32 [T, H * N].

    Parameters
    ----------
    x : float32 [T, H * K]
    name, precision : str
        As for `matmul`.
    data : uint8 array
        The matrices one after the other, as in the file.
    shape : (H, N, K)

    Raises
    ------
    ValueError
        As `matmul`.
    """
    heads, matrices = split(x, shape[0]), data.reshape(shape[0], -1)
    parts = [
        matmul(heads[:, h], name, matrices[h], shape[1:], precision=precision)
        for h in range(shape[0])
    ]
    return np.concatenate(parts, axis=1)


def head_columns(x: Floats, start: int, stop: int, *, n_heads: int) -> Floats:
    """Return columns `start` to `stop` - 1 of every head of x [T, H * D]."""
    return split(x, n_heads)[:, :, start:stop].reshape(len(x), -1)


def join_heads(a: Floats, b: Floats, *, n_heads: int, shared: bool = False) -> Floats:
    """Return heads of a [T, H * A], each followed by its part of b [T, H * B] (or [T, B])."""
    first = split(a, n_heads)
    second = b[:, None] if shared else split(b, n_heads)
    second = np.broadcast_to(second, (len(a), n_heads, second.shape[2]))
    return np.concatenate([first, second], axis=2).reshape(len(a), -1)
