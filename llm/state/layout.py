"""Cells of a cache outside a backend: all layers in a row, each keys [G, dk, n], values [G, n, dv].

It is the form of `Pool.read_cells`, the one in state files.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.llm.errors import StateError

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
Layers = Sequence[tuple[int, int, int]]

DTYPES = {"f16": np.float16, "f32": np.float32}


def dtype_of(kv_dtype: str) -> np.dtype[Any]:
    """Return the type of a cache's numbers; StateError if it is not known."""
    if kv_dtype not in DTYPES:
        raise StateError(f"expected a cache of type {', '.join(DTYPES)}, got {kv_dtype!r:.80}")
    return np.dtype(DTYPES[kv_dtype])


def n_numbers(layers: Layers, n_cells: int) -> int:
    """Return how many numbers `n_cells` cells are, over all layers."""
    return n_cells * sum(heads * (dk + dv) for heads, dk, dv in layers)


def parts(layers: Layers, numbers: Array, n_cells: int) -> Iterator[tuple[Array, Array]]:
    """Yield keys [G, dk, n] and values [G, n, dv] of each layer, as views."""
    start = 0
    for heads, dk, dv in layers:
        middle, stop = start + heads * dk * n_cells, start + heads * (dk + dv) * n_cells
        keys = numbers[start:middle].reshape(heads, dk, n_cells)
        yield keys, numbers[middle:stop].reshape(heads, n_cells, dv)
        start = stop


def cut(layers: Layers, numbers: Array, n_cells: int, start: int, stop: int) -> Array:
    """Return the cells start to stop - 1 of `n_cells` in the same form."""
    if (start, stop) == (0, n_cells):
        return numbers
    pieces = []
    for keys, values in parts(layers, numbers, n_cells):
        pieces += [keys[:, :, start:stop].reshape(-1), values[:, start:stop].reshape(-1)]
    return np.concatenate(pieces)
