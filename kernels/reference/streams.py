"""Twins of the kernels of hyper-connections, in NumPy: see `llm/graph/words/streams.py`."""

import numpy as np

from jitllm.kernels.reference.weights import Doubles, Floats, f32, f64, split


def _sigmoid(x: Doubles) -> Doubles:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-x)))


def stream_gates(
    x: Floats,
    *,
    n_streams: int,
    scale: Floats,
    base: Floats,
    eps: float,
    magnitude: float,
    post_eps: float,
    iterations: int,
) -> Floats:
    """Return gates of x [T, width]: to read, to write, and to mix `n_streams` streams."""
    z = f64(x) * scale + base
    read, write, mix = np.split(z, [n_streams, 2 * n_streams], axis=1)
    parts = [_sigmoid(read) + eps, magnitude * _sigmoid(write) + post_eps]
    if mix.shape[1]:
        parts.append(_mix(mix.reshape(-1, n_streams, n_streams), eps, iterations))
    return f32(np.concatenate(parts, axis=1))


def _mix(z: Doubles, eps: float, iterations: int) -> Doubles:
    """Sinkhorn's iteration on [T, src, dst]."""
    y = np.exp(z - z.max(axis=2, keepdims=True))
    y = y / y.sum(axis=2, keepdims=True) + eps
    for i in range(iterations):
        if i:
            y = y / (y.sum(axis=2, keepdims=True) + eps)
        y = y / (y.sum(axis=1, keepdims=True) + eps)
    return np.asarray(y.reshape(len(y), -1))


def stream_read(streams: Floats, gates: Floats, *, n_streams: int) -> Floats:
    """Return the sum over s of gates[:, s] * stream s, float32 [T, n]."""
    parts = split(f64(streams), n_streams)
    return f32((parts * gates[:, :n_streams, None]).sum(axis=1))


def stream_write(x: Floats, streams: Floats, gates: Floats, *, n_streams: int) -> Floats:
    """Return the streams [T, S * n], mixed if gates has a mix, with x [T, n] added by gates."""
    parts, mix = split(f64(streams), n_streams), gates[:, 2 * n_streams :]
    if mix.shape[1]:
        parts = np.einsum("tsd,tsn->tdn", f64(mix).reshape(-1, n_streams, n_streams), parts)
    added = f64(gates[:, n_streams : 2 * n_streams, None]) * x[:, None]
    return f32(parts + added).reshape(len(x), -1)
