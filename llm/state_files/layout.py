"""Cells of a cache outside a backend: all layers in a row, each as `Pool.read_cells` gives it.

It is the form in state files, where cells of one float type are arrays of it, others bytes.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.kernels import cache_types
from jitllm.kernels.cache_types import Rows
from jitllm.llm.errors import StateError

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
Layers = Sequence[tuple[int, int, int]]

_ARRAYS = {"f16": np.float16, "f32": np.float32}


def dtype_of(kv_dtype: str) -> np.dtype[Any]:
    """Return the type of a cache's arrays in files; StateError if the cache's is not known."""
    try:
        cache_types.spelled(kv_dtype)
    except ValueError as error:
        raise StateError(str(error)) from error
    return np.dtype(_ARRAYS.get(kv_dtype, np.uint8))


def n_bytes(layers: Layers, kv_dtype: str, n_cells: int) -> int:
    """Return how many bytes `n_cells` cells are; StateError if the type does not fit the heads."""
    try:
        return n_cells * cache_types.cell_bytes(kv_dtype, layers)
    except ValueError as error:
        raise StateError(str(error)) from error


def parts(layers: Layers, kv_dtype: str, data: Bytes, n_cells: int) -> Iterator[tuple[Rows, Array]]:
    """Yield keys, then values, of each layer: how they are stored, and a view [G, n, items]."""
    start = 0
    for layer in layers:
        for rows in cache_types.rows_of(kv_dtype, layer):
            stop = start + n_cells * rows.nbytes
            yield rows, rows.outside(data[start:stop], n_cells)
            start = stop


def cut(layers: Layers, kv_dtype: str, data: Bytes, n_cells: int, start: int, stop: int) -> Bytes:
    """Return the cells start to stop - 1 of `n_cells` in the same form."""
    if (start, stop) == (0, n_cells):
        return data
    count = stop - start
    out = np.empty(n_bytes(layers, kv_dtype, count), np.uint8)
    both = zip(
        parts(layers, kv_dtype, data, n_cells), parts(layers, kv_dtype, out, count), strict=True
    )
    for (_, old), (_, new) in both:
        new[...] = old[:, start:stop]
    return out


def converted(layers: Layers, old_type: str, new_type: str, data: Bytes, n_cells: int) -> Bytes:
    """Return cells of a cache of one type as those of another."""
    if old_type == new_type:
        return data
    out = np.empty(n_bytes(layers, new_type, n_cells), np.uint8)
    both = zip(
        parts(layers, old_type, data, n_cells), parts(layers, new_type, out, n_cells), strict=True
    )
    for (old_rows, old), (new_rows, new) in both:
        new[...] = new_rows.encode(old_rows.decode(old))
    return out
