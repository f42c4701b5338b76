"""Caches and states whose layers are on several devices."""

from collections.abc import Mapping, Sequence

from jitllm.backends._split.graph import Homes
from jitllm.backends.base import Bytes, Floats, Pool, StatePool
from jitllm.backends.ir import CacheSpec
from jitllm.kernels import cache_types


class SplitPool(Pool):
    """One cache.

    Parameters
    ----------
    spec : CacheSpec
    homes : sequence of str
        The device of each layer.
    kv_dtype : str
    pools : mapping
        The devices' pools, with the layers that they have; they have the same pages.
    """

    def __init__(
        self, spec: CacheSpec, homes: Sequence[str], kv_dtype: str, pools: Mapping[str, Pool]
    ) -> None:
        self.spec, self.homes, self.pools = spec, tuple(homes), dict(pools)
        self.n_pages = next(iter(self.pools.values())).n_pages
        self.kv_dtype = cache_types.spelled(kv_dtype)
        self._places = [
            (self.pools[device], self.homes[:i].count(device)) for i, device in enumerate(homes)
        ]

    @property
    def page_bytes(self) -> int:
        """Bytes of one page over all layers, on all devices."""
        return sum(pool.page_bytes for pool in self.pools.values())

    def copy_page(self, source: int, target: int) -> None:
        """Copy page `source` over page `target` in every layer."""
        for pool in self.pools.values():
            pool.copy_page(source, target)

    def read(self, layer: int, page: int) -> tuple[Floats, Floats]:
        """Return a page as float32 keys [64, G*dk] and values [64, G*dv]."""
        pool, own = self._places[layer]
        return pool.read(own, page)

    def write(self, layer: int, page: int, keys: Floats, values: Floats) -> None:
        """Overwrite a page with float32 keys [64, G*dk] and values [64, G*dv]."""
        pool, own = self._places[layer]
        pool.write(own, page, keys, values)

    def cell_bytes(self, layer: int) -> int:
        """Bytes of one cell of one layer in the form of `read_cells`."""
        pool, own = self._places[layer]
        return pool.cell_bytes(own)

    def read_cells(self, layer: int, page: int, start: int, stop: int, out: Bytes) -> None:
        """Copy cells of a page, as they are stored; see `Pool.read_cells`."""
        pool, own = self._places[layer]
        pool.read_cells(own, page, start, stop, out)

    def write_cells(self, layer: int, page: int, start: int, stop: int, data: Bytes) -> None:
        """Overwrite cells of a page with what `read_cells` gave."""
        pool, own = self._places[layer]
        pool.write_cells(own, page, start, stop, data)

    def close(self) -> None:
        """Free the memory on all devices."""
        for pool in self.pools.values():
            pool.close()
        self.n_pages = 0


class SplitStates(StatePool):
    """States of a graph.

    Parameters
    ----------
    sizes : tuple of int
    homes : Homes
        Its `states` are the device of each.
    n_slots : int
    pools : mapping
        Those of devices that have some.
    """

    def __init__(
        self, sizes: tuple[int, ...], homes: Homes, n_slots: int, pools: Mapping[str, StatePool]
    ) -> None:
        self.sizes, self.n_slots, self.homes, self.pools = sizes, n_slots, homes.states, dict(pools)
        self._places = [
            (self.pools[device], homes.states_on(device).index(i))
            for i, device in enumerate(homes.states)
        ]

    def read(self, slot: int, state: int) -> Floats:
        """Return a copy of a state."""
        pool, own = self._places[state]
        return pool.read(slot, own)

    def write(self, slot: int, state: int, values: Floats) -> None:
        """Overwrite a state."""
        pool, own = self._places[state]
        pool.write(slot, own, values)

    def close(self) -> None:
        """Free the memory on all devices."""
        for pool in self.pools.values():
            pool.close()
