"""A stand-in for NVIDIA's driver: the same methods, kernels run on this processor.

It is for tests, and to try kernels without a GPU. Whatever a kernel does beside the device's memory
is an error.
"""

import ctypes
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.backends._cuda.api import Driver, Launch
from jitllm.backends.base import BackendUnavailable, DeviceMemory
from jitllm.kernels.gpu.compiler import Code
from jitllm.kernels.gpu.simulator import KernelFault, LoadedKernel, Watcher

GAP = 4096  # bytes between pieces of memory
_ALIGNMENT = 256  # what CUDA gives


class Simulator(Driver):
    """A simulated device.

    Parameters
    ----------
    total_bytes : int or None
        Its memory; by default that of the machine.

    Attributes
    ----------
    watcher : Watcher or None
        Who is told of every load and store of kernels; at first, no one.
    """

    is_cpu, name, capability, multiprocessors = True, "simulator", (8, 0), 1

    def __init__(self, total_bytes: int | None = None) -> None:
        self.total_bytes = total_bytes or _memory_bytes()
        self.watcher: Watcher | None = None
        self._memory: dict[int, tuple[int, npt.NDArray[np.uint8]]] = {}  # by address, with sizes
        self._list_pieces()

    def memory(self) -> DeviceMemory:
        """Return all bytes of the device, and those that are free."""
        used = sum(n for n, _ in self._memory.values())
        return DeviceMemory(self.total_bytes, self.total_bytes - used)

    def allocate(self, nbytes: int) -> int:
        """Allocate; see `Driver.allocate`."""
        if nbytes > (free := self.memory().free):
            raise BackendUnavailable(
                f"CUDA device {self.name}: {nbytes} bytes are needed, {free} of {self.total_bytes} "
                "are free"
            )
        data = np.zeros(nbytes + GAP + _ALIGNMENT, np.uint8)
        address = -(-int(data.ctypes.data) // _ALIGNMENT) * _ALIGNMENT
        self._memory[address] = nbytes, data
        self._list_pieces()
        return address

    def free(self, address: int) -> None:
        """Give memory back."""
        del self._memory[address]
        self._list_pieces()

    def _list_pieces(self) -> None:
        pieces = [(at, at + n) for at, (n, _) in self._memory.items()]
        self._pieces = np.array(pieces, np.int64).reshape(-1, 2)

    def upload(self, address: int, data: npt.NDArray[Any]) -> None:
        """Copy a contiguous array to the device."""
        ctypes.memmove(address, data.ctypes.data, data.nbytes)

    def download(self, out: npt.NDArray[Any], address: int) -> None:
        """Fill a contiguous array from the device."""
        ctypes.memmove(out.ctypes.data, address, out.nbytes)

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy within the device."""
        ctypes.memmove(target, source, nbytes)

    def load(self, code: Code) -> LoadedKernel:
        """Return a kernel, whose code is an object file."""
        return LoadedKernel(code)

    def unload(self, function: LoadedKernel) -> None:
        """Forget a kernel; its code stays as long as the process."""

    def graph(self, groups: Sequence[Sequence[Launch]]) -> Sequence[Sequence[Launch]]:
        """Return what `run` runs."""
        return [list(group) for group in groups]

    def run(self, graph: Sequence[Sequence[Launch]]) -> None:
        """Run all launches.

        Those of a group are run last first: they must not depend on each other.
        """
        self._run_all(graph)

    def _run_all(self, graph: Sequence[Sequence[Launch]]) -> None:
        for group in graph:
            if self.watcher:
                self.watcher.begin()
            for launch in reversed(group):
                try:
                    launch.function.run(
                        launch.arguments, launch.grid, self._pieces, watcher=self.watcher
                    )
                except KernelFault as error:
                    raise BackendUnavailable(f"CUDA device {self.name}: {error}") from error

    def seconds(self, graph: Sequence[Sequence[Launch]]) -> float:
        """Run all launches; returns how long that took."""
        start = time.perf_counter()
        self._run_all(graph)
        return time.perf_counter() - start

    def free_graph(self, graph: Sequence[Sequence[Launch]]) -> None:
        """Forget a graph."""

    def close(self) -> None:
        """Free what was left."""
        self._memory.clear()


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 1 << 34
