"""Caches whose pages are NumPy arrays of floats, as the backends of this machine have them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.backends.base import PAGE_TOKENS, Bytes, Floats, Pool
from jitllm.backends.ir import CacheSpec

KV_DTYPES: Mapping[str, type[np.floating[Any]]] = {"f16": np.float16, "f32": np.float32}

Array = npt.NDArray[Any]


class ArrayPool(Pool):
    """Pages of one cache; a page of a layer is [G, 64*dk + 64*dv], keys [dk, 64], values [64, dv].

    Parameters
    ----------
    spec : CacheSpec
    n_pages : int
    kv_dtype : str
        "f16" or "f32".
    allocate : callable
        Given shape and dtype, returns a zeroed array.

    Attributes
    ----------
    layers : list of array
        [n_pages, G * 64 * (dk + dv)] of each layer.
    """

    def __init__(
        self, spec: CacheSpec, n_pages: int, kv_dtype: str, allocate: Callable[..., Array]
    ) -> None:
        if kv_dtype not in KV_DTYPES:
            raise ValueError(f"kv_dtype must be one of {sorted(KV_DTYPES)}, got {kv_dtype!r}")
        self.spec, self.n_pages, self.kv_dtype = spec, n_pages, kv_dtype
        self.dtype = np.dtype(KV_DTYPES[kv_dtype])
        self.layers = [
            allocate((n_pages, heads * (dk + dv) * PAGE_TOKENS), self.dtype)
            for heads, dk, dv in spec.layers
        ]

    def layer_bytes(self, layer: int) -> int:
        """Bytes of one page of one layer."""
        heads, dk, dv = self.spec.layers[layer]
        return heads * (dk + dv) * PAGE_TOKENS * self.dtype.itemsize

    @property
    def page_bytes(self) -> int:
        """Bytes of one page over all layers."""
        return sum(self.layer_bytes(layer) for layer in range(len(self.spec.layers)))

    def copy_page(self, source: int, target: int) -> None:
        """Copy page `source` over page `target` in every layer."""
        for pages in self.layers:
            pages[target] = pages[source]

    def read(self, layer: int, page: int) -> tuple[Floats, Floats]:
        """Return a page as float32 keys [64, G*dk] and values [64, G*dv]."""
        keys, values = self._cells(layer, page)
        k = keys.transpose(2, 0, 1).reshape(PAGE_TOKENS, -1)
        v = values.transpose(1, 0, 2).reshape(PAGE_TOKENS, -1)
        return k.astype(np.float32), v.astype(np.float32)

    def write(self, layer: int, page: int, keys: Floats, values: Floats) -> None:
        """Overwrite a page with float32 keys [64, G*dk] and values [64, G*dv]."""
        own_keys, own_values = self._cells(layer, page)
        heads, dk, dv = self.spec.layers[layer]
        own_keys[...] = keys.reshape(PAGE_TOKENS, heads, dk).transpose(1, 2, 0)
        own_values[...] = values.reshape(PAGE_TOKENS, heads, dv).transpose(1, 0, 2)

    def cell_bytes(self, layer: int) -> int:
        """Bytes of one cell of one layer in the form of `read_cells`."""
        return self.layer_bytes(layer) // PAGE_TOKENS

    def read_cells(self, layer: int, page: int, start: int, stop: int, out: Bytes) -> None:
        """Copy cells of a page, as they are stored: keys [G, dk, n], then values [G, n, dv]."""
        for part, cells in self._parts(layer, page, start, stop, out):
            part[...] = cells

    def write_cells(self, layer: int, page: int, start: int, stop: int, data: Bytes) -> None:
        """Overwrite cells of a page with what `read_cells` gave."""
        for part, cells in self._parts(layer, page, start, stop, data):
            cells[...] = part

    def close(self) -> None:
        """Free the memory."""
        self.layers, self.n_pages = [], 0

    def _cells(self, layer: int, page: int) -> tuple[Array, Array]:
        """Views of a page: keys [G, dk, 64] and values [G, 64, dv]."""
        heads, dk, dv = self.spec.layers[layer]
        cells = self.layers[layer][page].reshape(heads, -1)
        n_keys = dk * PAGE_TOKENS
        return (
            cells[:, :n_keys].reshape(heads, dk, PAGE_TOKENS),
            cells[:, n_keys:].reshape(heads, PAGE_TOKENS, dv),
        )

    def _parts(
        self, layer: int, page: int, start: int, stop: int, data: Bytes
    ) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """Pair the keys and values of `data` with those of the page."""
        keys, values = self._cells(layer, page)
        keys, values = keys[:, :, start:stop], values[:, start:stop]
        items = data.view(self.dtype)
        return (
            (items[: keys.size].reshape(keys.shape), keys),
            (items[keys.size :].reshape(values.shape), values),
        )
