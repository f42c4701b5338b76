"""Keys and values of a sequence as arrays: read, and edited in place."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.backends.base import PAGE_TOKENS
from jitllm.backends.ir import Graph
from jitllm.llm.state.contents import Contents

Floats = npt.NDArray[np.float32]

_BLOCK = re.compile(r"blk\.([0-9]+)\.")


class CacheArray:
    """Keys or values of one layer, float32 [cells, heads, head_dim]; what is written goes back.

    Indexing gives a copy, assignment changes the cache; the sequence's later tokens see it.
    `np.asarray` gives all.
    """

    def __init__(self, layer: "LayerCache", part: int) -> None:
        self._layer, self._part = layer, part

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cells, heads, and numbers of each."""
        heads, *sizes = self._layer.sizes
        return self._layer.n_cells, heads, sizes[self._part]

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self._layer.read()[self._part].astype(dtype or np.float32, copy=False)

    def __getitem__(self, index: Any) -> Any:
        return self._layer.read()[self._part][index]

    def __setitem__(self, index: Any, value: Any) -> None:
        both = self._layer.read()
        before = both[self._part].copy()
        both[self._part][index] = value
        changed = np.flatnonzero((both[self._part] != before).any((1, 2)))
        if len(changed):
            self._layer.write(both, int(changed[0]), int(changed[-1]) + 1)

    def __repr__(self) -> str:
        return f"<CacheArray {list(self.shape)}>"


class LayerCache:
    """What one attention layer remembers of a sequence.

    Attributes
    ----------
    k, v : CacheArray
        A layer of latent attention (MLA) has the latent rows as `k`.
    """

    def __init__(self, contents: Contents, cache: int, layer: int) -> None:
        self._contents, self._cache, self._layer = contents, cache, layer
        self.k, self.v = CacheArray(self, 0), CacheArray(self, 1)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Heads, and numbers of a key and of a value."""
        return self._contents.cells.pools[self._cache].pool.spec.layers[self._layer]

    @property
    def first(self) -> int:
        """Position of the first cell: more than 0 where a sliding window dropped some."""
        return self._contents.cells.firsts[self._cache]

    @property
    def n_cells(self) -> int:
        """How many cells there are."""
        return max(0, self._contents.n_done - self.first)

    def read(self) -> tuple[Floats, Floats]:
        """Return copies of keys [cells, heads, dk] and values [cells, heads, dv]."""
        heads, dk, dv = self.sizes
        pages = [self._pool.read(self._layer, page) for page in self._pages(0, self.n_cells)]
        empty = np.empty((0, heads * dk), np.float32), np.empty((0, heads * dv), np.float32)
        skipped = self.first % PAGE_TOKENS
        own = slice(skipped, skipped + self.n_cells)
        k, v = (np.concatenate(half)[own] for half in zip(empty, *pages, strict=True))
        return k.reshape(len(k), heads, dk), v.reshape(len(v), heads, dv)

    def write(self, both: tuple[Floats, Floats], start: int, stop: int) -> None:
        """Overwrite the cells start to stop - 1, counted from the first there is."""
        contents, first = self._contents, self.first
        contents.cells.own(self._cache, first + start, first + stop)
        skipped = first % PAGE_TOKENS
        for block, page in enumerate(self._pages(start, stop), (skipped + start) // PAGE_TOKENS):
            rows = [np.zeros((PAGE_TOKENS, x.shape[1] * x.shape[2]), np.float32) for x in both]
            near = block * PAGE_TOKENS - skipped
            for row, x in zip(rows, both, strict=True):
                part = x[max(0, near) : near + PAGE_TOKENS]
                row[max(0, -near) :][: len(part)] = part.reshape(len(part), -1)
            self._pool.write(self._layer, page, rows[0], rows[1])
        contents.last, contents.cells.graph = None, None
        contents.lineage = contents.lineage and contents.lineage.cut_cells(first + start)

    @property
    def _pool(self) -> Any:
        return self._contents.cells.pools[self._cache].pool

    def _pages(self, start: int, stop: int) -> list[int]:
        begin = (self.first + start) // PAGE_TOKENS * PAGE_TOKENS
        starts = range(begin, self.first + stop, PAGE_TOKENS)
        return [self._contents.cells.page(self._cache, position) for position in starts]

    def __repr__(self) -> str:
        return f"<LayerCache: k {list(self.k.shape)}, v {list(self.v.shape)}, from {self.first}>"


class CacheViews(Sequence[LayerCache]):
    """The caches of a sequence by the number of the model's block.

    Blocks without attention of their own, such as recurrent ones, raise IndexError.
    """

    def __init__(self, graph: Graph, contents: Contents) -> None:
        self._places = places(graph)
        self._contents = contents

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[LayerCache]:
        return (self[block] for block in self._places)

    def __getitem__(self, block: Any) -> Any:
        if block not in self._places:
            raise IndexError(
                f"expected a block with a cache, one of {sorted(self._places)}, got {block!r}"
            )
        return LayerCache(self._contents, *self._places[block])


def places(graph: Graph) -> dict[int, tuple[int, int]]:
    """Return for each block with a cache of the tokens its number and the layer in it."""
    n_cross, found = sum(spec.cross for spec in graph.caches), {}  # they come first
    for node in graph.nodes:
        if "layer" not in node.attrs or node.attrs.get("cache", -1) < n_cross:
            continue
        if block := _BLOCK.match(node.name):
            found[int(block[1])] = (node.attrs["cache"] - n_cross, node.attrs["layer"])
    return found
