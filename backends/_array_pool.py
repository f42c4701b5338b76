"""Caches whose pages are NumPy arrays, as the backends of this machine have them."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.backends.base import PAGE_TOKENS, Bytes, Floats, Pool
from jitllm.backends.ir import CacheSpec
from jitllm.kernels import cache_types
from jitllm.kernels.cache_types import Rows

Array = npt.NDArray[Any]


class ArrayPool(Pool):
    """Pages of one cache: for each head of a layer keys [items, 64], then values [64, items].

    Items are numbers, or bytes of quantized blocks; see `jitllm.kernels.cache_types`.

    Parameters
    ----------
    spec : CacheSpec
    n_pages : int
    kv_dtype : str
        As `Backend.new_pool` takes it.
    allocate : callable
        Given shape and dtype, returns a zeroed array.

    Attributes
    ----------
    layers : list of uint8 array
        [n_pages, bytes of a page] of each layer.

    Raises
    ------
    ValueError
        If there is no such type, or the heads are no whole blocks of it.
    """

    def __init__(
        self, spec: CacheSpec, n_pages: int, kv_dtype: str, allocate: Callable[..., Bytes]
    ) -> None:
        self.spec, self.n_pages = spec, n_pages
        self.kv_dtype = cache_types.spelled(kv_dtype)
        self.layers = [
            allocate((n_pages, self.layer_bytes(layer)), np.dtype(np.uint8))
            for layer in range(len(spec.layers))
        ]

    def rows(self, layer: int) -> tuple[Rows, Rows]:
        """How keys and values of a layer are stored."""
        return cache_types.rows_of(self.kv_dtype, self.spec.layers[layer])

    def layer_bytes(self, layer: int) -> int:
        """Bytes of one page of one layer."""
        return PAGE_TOKENS * self.cell_bytes(layer)

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
        keys, values = (
            rows.decode(cells).transpose(1, 0, 2).reshape(PAGE_TOKENS, rows.heads * rows.width)
            for rows, cells in self._cells(layer, page)
        )
        return keys, values

    def write(self, layer: int, page: int, keys: Floats, values: Floats) -> None:
        """Overwrite a page with float32 keys [64, G*dk] and values [64, G*dv].

        Rows that are what `read` gives stay as they are, bit for bit.
        """
        now = self.read(layer, page)
        for (rows, cells), x, old in zip(
            self._cells(layer, page), (keys, values), now, strict=True
        ):
            shape = (PAGE_TOKENS, rows.heads, rows.width)
            new, was = (
                np.asarray(y, np.float32).reshape(shape).swapaxes(0, 1) for y in (x, old)
            )  # fmt: skip
            differs = (new.view(np.int32) != was.view(np.int32)).any(axis=2)
            cells[differs] = rows.encode(new[differs])

    def cell_bytes(self, layer: int) -> int:
        """Bytes of one cell of one layer in the form of `read_cells`."""
        return sum(rows.nbytes for rows in self.rows(layer))

    def read_cells(self, layer: int, page: int, start: int, stop: int, out: Bytes) -> None:
        """Copy cells of a page, as they are stored; see `Pool.read_cells`."""
        for outside, cells in self._both(layer, page, start, stop, out):
            outside[...] = cells

    def write_cells(self, layer: int, page: int, start: int, stop: int, data: Bytes) -> None:
        """Overwrite cells of a page with what `read_cells` gave."""
        for outside, cells in self._both(layer, page, start, stop, data):
            cells[...] = outside

    def close(self) -> None:
        """Free the memory."""
        self.layers, self.n_pages = [], 0

    def _cells(self, layer: int, page: int) -> list[tuple[Rows, Array]]:
        """Keys and values of a page: how they are stored, and a view [G, 64, items]."""
        sizes = self.spec.layers[layer]
        keys, values = cache_types.page_views(self.kv_dtype, sizes, self.layers[layer][page])
        views = keys.swapaxes(1, 2), values
        return list(zip(self.rows(layer), views, strict=True))

    def _both(
        self, layer: int, page: int, start: int, stop: int, data: Bytes
    ) -> Iterator[tuple[Array, Array]]:
        """Pair the keys and values of `data` with those of the page, as [G, n, items]."""
        at = 0
        for rows, cells in self._cells(layer, page):
            end = at + (stop - start) * rows.nbytes
            yield rows.outside(data[at:end], stop - start), cells[:, start:stop]
            at = end
