"""Rotation of rows in shared memory by Hadamard matrices, in the order of `cache_types.rotated`."""

import numpy as np

from jitllm.kernels.cache_types import hadamard_of_keys, hadamard_of_values, is_quantized
from jitllm.kernels.gpu.vocabulary import (
    inline,
    load_shared_f32,
    store_shared_f32,
    sync_threads,
    thread,
)


def key_rotation(kind, width, threads):
    """Make f(x), which rotates queries of `width` numbers as keys of a cache's type are."""
    return rotation(hadamard_of_keys(width) if is_quantized(kind) else 0, width, threads)


def value_rotation(kind, width, threads):
    """Make f(x), which turns `width` sums of values of a cache's type back."""
    return rotation(hadamard_of_values(width) if is_quantized(kind) else 0, width, threads)


def rotation(size, width, threads):
    """Make f(x): rotate each `size` of `width` floats at x, by all `threads` of a workgroup.

    The caller lets them meet before; they meet at the end, unless `size` is 0, for no rotation.
    """
    half, factor = width // 2, np.float32(1) / np.sqrt(np.float32(size or 1))

    @inline
    def nothing(x):
        pass

    @inline
    def rotate(x):
        step = 1
        while step < size:
            for i in range(thread(), half, threads):
                low = i & (step - 1)
                at = x + 4 * (2 * i - low)
                a, b = load_shared_f32(at), load_shared_f32(at + 4 * step)
                store_shared_f32(at, a + b)
                store_shared_f32(at + 4 * step, a - b)
            sync_threads()
            step *= 2
        for i in range(thread(), width, threads):
            store_shared_f32(x + 4 * i, load_shared_f32(x + 4 * i) * factor)
        sync_threads()

    return rotate if size else nothing
