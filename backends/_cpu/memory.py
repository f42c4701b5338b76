"""Memory of the CPU backend: aligned arrays, big mappings, packed weights, cache pools."""

import mmap
import sys
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.backends._array_pool import ArrayPool
from jitllm.backends._cpu.threads import ThreadPool, aligned
from jitllm.backends.base import Bytes, Floats, StatePool, Weight
from jitllm.backends.ir import CacheSpec
from jitllm.kernels import abi, formats, packed

_HUGE_PAGE = 2 << 20
# Python names it from 3.13 on; this is Linux's number.
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


def mapping(n_bytes: int) -> Bytes:
    """Return zeroed bytes straight from the system, which takes them back when they are dropped.

    Memory that is never touched costs nothing, so pools may be generous. `MemoryError` if there is
    none.
    """
    if n_bytes < _HUGE_PAGE:
        return aligned(n_bytes)
    try:
        if hasattr(mmap, "MAP_PRIVATE"):
            # shared memory, Python's default, would get no huge pages
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
            area = mmap.mmap(-1, n_bytes, flags=flags)
        else:
            area = mmap.mmap(-1, n_bytes)
    except OSError as error:
        raise MemoryError(f"{n_bytes} bytes in one piece: {error}") from error
    return np.frombuffer(area, np.uint8)


def use_huge_pages(memory: Bytes) -> None:
    """Ask for big pages: memory that is filled at once is then mapped much faster."""
    area: Any = getattr(memory.base, "obj", None)  # behind the array a memoryview of the mapping
    if isinstance(area, mmap.mmap) and hasattr(mmap, "MADV_HUGEPAGE"):
        area.madvise(mmap.MADV_HUGEPAGE)


class PackedShape:
    """A matrix, or a stack of them, in the packed layout: sizes only, at no address.

    Parameters
    ----------
    type_name : str
    shape : tuple of int
        (n, k) or (experts, n, k).
    """

    address = 0

    def __init__(self, type_name: str, shape: tuple[int, ...]) -> None:
        self.type_name, self.shape = type_name, shape
        self.n, self.k = shape[-2:]
        self.matrix_bytes = packed.matrix_bytes(type_name, self.n, self.k)
        self.n_matrices = prod(shape[:-2])
        self.n_bytes = self.n_matrices * self.matrix_bytes


class PackedWeight(PackedShape):
    """The same with its memory, uint8."""

    def __init__(self, weight: Weight) -> None:
        super().__init__(weight.type_name, weight.shape)
        self.memory = mapping(self.n_bytes)
        use_huge_pages(self.memory)

        self.address = int(self.memory.ctypes.data)


def pack_matrix(
    threads: ThreadPool, type_name: str, size: tuple[int, int], source: int, target: int
) -> None:
    """Write a matrix of `size` (n, k) in the packed layout.

    `source` is the address of its rows as in the file, `target` that of what becomes of them.
    """
    run, ops = aligned(64).view(np.int64), aligned(abi.OP_BYTES).view(np.int64)
    n, k = size
    block = abi.REPACK.pack(run.ctypes.data, source=source, target=target, n=n, k=k)
    ops[abi.OP_KERNEL] = abi.REPACK.address(fmt=type_name)
    ops[abi.OP_ARGS], ops[abi.OP_COUNTER] = block.ctypes.data, 0
    threads.run(ops.ctypes.data, 0, 1)


def vector_bytes(n: int) -> int:
    """Return the bytes of a small tensor of `n` numbers: float32, in whole vectors of 16."""
    return 4 * -(-n // 16) * 16


def vector(weight: Weight) -> Floats:
    """Return a small tensor as float32, flat, zero-padded to whole vectors of 16."""
    values = formats.dequantize(weight.type_name, weight.data, weight.shape).reshape(-1)
    padded = aligned(vector_bytes(len(values))).view(np.float32)
    padded[: len(values)] = values
    return padded


class CpuPool(ArrayPool):
    """Pages of one cache; layer l's page p starts at `address(l) + p * layer_bytes(l)`.

    Without memory it has sizes only.
    """

    def __init__(
        self, spec: CacheSpec, n_pages: int, kv_dtype: str, *, has_memory: bool = True
    ) -> None:
        super().__init__(spec, n_pages, kv_dtype, _mapped if has_memory else _nothing)

    def address(self, layer: int) -> int:
        """Address of a layer's page 0."""
        return int(self.layers[layer].ctypes.data)


def _mapped(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    return mapping(int(np.prod(shape)) * dtype.itemsize).view(dtype).reshape(shape)


def _nothing(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.broadcast_to(np.zeros((), dtype), shape)


def state_bytes(size: int) -> int:
    """Return the bytes of a state of `size` numbers: whole cache lines."""
    return -(-4 * size // 64) * 64


class CpuStates(StatePool):
    """States in slots one after the other; state i of a slot is `offsets[i]` bytes into it.

    Every state starts on a cache line. Without memory it has sizes only.
    """

    def __init__(self, sizes: tuple[int, ...], n_slots: int, *, has_memory: bool = True) -> None:
        self.sizes, self.n_slots = sizes, n_slots
        lines = [state_bytes(size) for size in sizes]
        self.offsets = tuple(sum(lines[:i]) for i in range(len(lines)))
        self.stride = sum(lines)
        self.memory = mapping(n_slots * self.stride if has_memory else 0)

    @property
    def address(self) -> int:
        """Address of slot 0."""
        return int(self.memory.ctypes.data)

    def _view(self, slot: int, state: int) -> Floats:
        start = slot * self.stride + self.offsets[state]
        return self.memory[start : start + 4 * self.sizes[state]].view(np.float32)

    def read(self, slot: int, state: int) -> Floats:
        """Return a copy of a state."""
        return self._view(slot, state).copy()

    def write(self, slot: int, state: int, values: Floats) -> None:
        """Overwrite a state."""
        self._view(slot, state)[:] = values

    def close(self) -> None:
        """Free the memory."""
        self.memory = np.zeros(0, np.uint8)
