"""What a model keeps on a GPU: matrices, caches, states."""

from dataclasses import dataclass
from math import prod

import numpy as np

from jitllm.backends._array_pool import ArrayPool
from jitllm.backends._gpu.device import Device, Kernels, Memory, whole_words
from jitllm.backends.base import (
    PAGE_TOKENS,
    BackendUnavailable,
    Bytes,
    Floats,
    Pool,
    StatePool,
    Weight,
)
from jitllm.backends.ir import CacheSpec
from jitllm.kernels import cache_types, formats

_SPARE = "F16"  # what a type becomes that no kernel reads


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of a tensor type on the device: (n, k), or a stack of such matrices."""

    memory: Memory | None  # None where only sizes matter
    type_name: str
    shape: tuple[int, ...]

    @property
    def address(self) -> int:
        """Where the first row is."""
        return self.memory.address if self.memory else 0

    @property
    def n_bytes(self) -> int:
        """Bytes on the device."""
        return whole_words(prod(self.shape[:-1]) * row_bytes(self.type_name, self.k))

    @property
    def n(self) -> int:
        """Rows of a matrix."""
        return self.shape[-2]

    @property
    def k(self) -> int:
        """Columns."""
        return self.shape[-1]


def row_bytes(type_name: str, k: int) -> int:
    """Return the bytes of a row of k weights."""
    fmt = formats.get(type_name)
    return k // fmt.block_size * fmt.block_bytes


def stored_type(kernels: Kernels, type_name: str) -> str:
    """Return the type that a matrix has on the device."""
    return type_name if type_name in kernels.types else _SPARE


def upload_matrix(device: Device, weight: Weight, type_name: str) -> Matrix:
    """Copy a tensor to the device: rows as in the file, or as another type has them."""
    data = weight.data.reshape(-1).view(np.uint8)
    if type_name != weight.type_name:
        values = formats.dequantize(weight.type_name, weight.data, weight.shape)
        data = formats.quantize(type_name, values).reshape(-1).view(np.uint8)
    memory = device.allocate(data.nbytes)
    try:
        memory.upload(data)
    except BaseException:
        memory.free()
        raise
    return Matrix(memory, type_name, tuple(weight.shape))


class GpuPool(Pool):
    """Pages as `ArrayPool` has them, on the device; one page at a time is seen by the host.

    Parameters
    ----------
    device : Device or None
        None where only sizes matter.
    spec : CacheSpec
    n_pages : int
    kv_dtype : str
        As `Backend.new_pool` takes it.

    Raises
    ------
    ValueError
        If there is no such type, or the heads are no whole blocks of it.
    BackendUnavailable
        If the memory is not there.
    """

    def __init__(self, device: Device | None, spec: CacheSpec, n_pages: int, kv_dtype: str) -> None:
        self._one = ArrayPool(spec, 1, kv_dtype, np.zeros)
        self.spec, self.n_pages, self.kv_dtype = spec, n_pages, self._one.kv_dtype
        keys, values = map(cache_types.NAMES.index, cache_types.pair(self.kv_dtype))
        self.kinds = keys, values  # as kernels know them
        self.layers: list[Memory] = []
        try:
            for layer in range(len(spec.layers) if device else 0):
                assert device
                self.layers.append(device.allocate(n_pages * self.layer_bytes(layer)))
        except BackendUnavailable:
            self.close()
            raise

    def pages(self, layer: int) -> tuple[int, int]:
        """Return the address of a layer's pages, and their bytes."""
        address = self.layers[layer].address if self.layers else 0
        return address, self.n_pages * self.layer_bytes(layer)

    def layer_bytes(self, layer: int) -> int:
        """Bytes of one page of one layer."""
        return int(self._one.layers[layer][0].nbytes)

    def head_bytes(self, layer: int) -> tuple[int, int]:
        """Bytes of the keys of a head in a page, and of its keys and values."""
        keys, values = (PAGE_TOKENS * rows.nbytes // rows.heads for rows in self._one.rows(layer))
        return keys, keys + values

    @property
    def page_bytes(self) -> int:
        """Bytes of one page over all layers."""
        return self._one.page_bytes

    def copy_page(self, source: int, target: int) -> None:
        """Copy page `source` over page `target` in every layer."""
        if source == target:
            return
        for layer, memory in enumerate(self.layers):
            size = self.layer_bytes(layer)
            memory.copy_from(memory, source * size, target * size, size)

    def read(self, layer: int, page: int) -> tuple[Floats, Floats]:
        """Return a page as float32 keys [64, G*dk] and values [64, G*dv]."""
        self._fetch(layer, page)
        return self._one.read(layer, 0)

    def write(self, layer: int, page: int, keys: Floats, values: Floats) -> None:
        """Overwrite a page with float32 keys [64, G*dk] and values [64, G*dv]."""
        self._fetch(layer, page)
        self._one.write(layer, 0, keys, values)
        self._store(layer, page)

    def cell_bytes(self, layer: int) -> int:
        """Bytes of one cell of one layer in the form of `read_cells`."""
        return self._one.cell_bytes(layer)

    def read_cells(self, layer: int, page: int, start: int, stop: int, out: Bytes) -> None:
        """Copy cells of a page, as they are stored; see `Pool.read_cells`."""
        self._fetch(layer, page)
        self._one.read_cells(layer, 0, start, stop, out)

    def write_cells(self, layer: int, page: int, start: int, stop: int, data: Bytes) -> None:
        """Overwrite cells of a page with what `read_cells` gave."""
        self._fetch(layer, page)
        self._one.write_cells(layer, 0, start, stop, data)
        self._store(layer, page)

    def close(self) -> None:
        """Free the memory."""
        for memory in self.layers:
            memory.free()
        self.layers, self.n_pages = [], 0

    def _fetch(self, layer: int, page: int) -> None:
        own = self._one.layers[layer][0]
        self.layers[layer].download(own, page * own.nbytes)

    def _store(self, layer: int, page: int) -> None:
        own = self._one.layers[layer][0]
        self.layers[layer].upload(own, page * own.nbytes)


class GpuStates(StatePool):
    """States of a graph, [n_slots, all states of a sequence], on the device."""

    def __init__(self, device: Device, sizes: tuple[int, ...], n_slots: int) -> None:
        self.sizes, self.n_slots = sizes, n_slots
        self.offsets = [4 * sum(sizes[:i]) for i in range(len(sizes))]
        self.memory = device.allocate(self.slot_bytes * n_slots)

    def read(self, slot: int, state: int) -> Floats:
        """Return a copy of a state."""
        out = np.empty(self.sizes[state], np.float32)
        self.memory.download(out, slot * self.slot_bytes + self.offsets[state])
        return out

    def write(self, slot: int, state: int, values: Floats) -> None:
        """Overwrite a state."""
        values = np.broadcast_to(values, self.sizes[state]).astype(np.float32)
        self.memory.upload(values, slot * self.slot_bytes + self.offsets[state])

    def close(self) -> None:
        """Free the memory."""
        self.memory.free()
