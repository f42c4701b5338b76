"""Gates of residual streams (hyper-connections): one warp a row."""

import numpy as np

from jitllm.kernels.gpu.vocabulary import (
    A,
    F,
    U,
    exp,
    fma,
    group_y,
    inline,
    lane,
    load_f32,
    load_shared_f32,
    load_u32,
    maximum,
    shared,
    sigmoid,
    store_f32,
    store_shared_f32,
    sync_warp,
)

THREADS = 32
ZERO = np.float32(0)


@inline
def _divide(at, first, step, n, eps):
    """Divide n numbers, `step` apart, by their sum + eps."""
    total = ZERO
    for i in range(n):
        total += load_shared_f32(at + 4 * (first + step * i))
    total += eps
    for i in range(n):
        place = at + 4 * (first + step * i)
        store_shared_f32(place, load_shared_f32(place) / total)


@inline
def _softmax(row, n, eps):
    """Make n numbers their softmax + eps."""
    top = load_shared_f32(row)
    for i in range(1, n):
        top = maximum(top, load_shared_f32(row + 4 * i))
    for i in range(n):
        store_shared_f32(row + 4 * i, exp(load_shared_f32(row + 4 * i) - top))
    _divide(row, 0, 1, n, ZERO)
    for i in range(n):
        store_shared_f32(row + 4 * i, load_shared_f32(row + 4 * i) + eps)


@inline
def _mix(z, n, eps, iterations):
    """Sinkhorn's iteration on n * n numbers, [source][target]: a lane for each source or target."""
    own = lane()
    if own < n:
        _softmax(z + 4 * n * own, n, eps)
    sync_warp()
    for turn in range(iterations):
        if turn > 0 and own < n:
            _divide(z, n * own, 1, n, eps)
        sync_warp()
        if own < n:
            _divide(z, own, n, n, eps)
        sync_warp()


def stream_gates(n_streams):
    """Make the gates of rows: to read, to write, and to mix; see `reference_streams`."""
    mix_bytes = 4 * n_streams * n_streams

    def kernel(
        rows: A, x: A, scale: A, base: A, y: A,
        ldx: U, ldy: U, width: U, iterations: U, eps: F, magnitude: F, post_eps: F,
    ):  # fmt: skip
        row = group_y()
        if row >= load_u32(rows):
            return
        mix = shared(mix_bytes)
        for i in range(lane(), width, THREADS):
            v = load_f32(x + 4 * (row * ldx + i))
            v = fma(v, load_f32(scale + 4 * i), load_f32(base + 4 * i))
            if i < n_streams:
                store_f32(y + 4 * (row * ldy + i), sigmoid(v) + eps)
            elif i < 2 * n_streams:
                store_f32(y + 4 * (row * ldy + i), fma(sigmoid(v), magnitude, post_eps))
            else:
                store_shared_f32(mix + 4 * (i - 2 * n_streams), v)
        sync_warp()
        if width > 2 * n_streams:
            _mix(mix, n_streams, eps, iterations)
        for i in range(lane(), width - 2 * n_streams, THREADS):
            store_f32(y + 4 * (row * ldy + 2 * n_streams + i), load_shared_f32(mix + 4 * i))

    return kernel
