"""A stand-in for NVIDIA's driver: the same methods, kernels run on this processor.

It is for tests, and to try kernels without a GPU. What a kernel writes beside its memory is found
when the memory is freed.
"""

import ctypes
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.backends._cuda_driver import Launch
from jitllm.backends.base import BackendUnavailable
from jitllm.kernels.gpu_compiler import Code
from jitllm.kernels.gpu_simulator import LoadedKernel, ThreadsDiverged

GUARD = 4096  # bytes of 0xFF (NaN) before and behind every piece of memory
_ALIGNMENT = 256  # what CUDA gives


class Simulator:
    """A simulated device.

    Parameters
    ----------
    total_bytes : int or None
        Its memory; by default that of the machine.
    """

    is_cpu, name, capability = True, "simulator", (8, 0)

    def __init__(self, total_bytes: int | None = None) -> None:
        self.total_bytes = total_bytes or _memory_bytes()
        self._memory: dict[int, npt.NDArray[np.uint8]] = {}  # with guards, by address

    def allocate(self, nbytes: int) -> int:
        """Return the address of new memory, filled with 0xFF."""
        used = sum(len(data) - 2 * GUARD for data in self._memory.values())
        if used + nbytes > self.total_bytes:
            raise BackendUnavailable(
                f"CUDA device {self.name}: {nbytes} bytes are needed, {self.total_bytes - used} "
                f"of {self.total_bytes} are free"
            )
        raw = np.full(nbytes + 2 * GUARD + _ALIGNMENT, 0xFF, np.uint8)
        start = -(raw.ctypes.data + GUARD) % _ALIGNMENT
        data = raw[start : start + nbytes + 2 * GUARD]
        address = int(data.ctypes.data) + GUARD
        self._memory[address] = data
        return address

    def free(self, address: int) -> None:
        """Give memory back; `RuntimeError` if something was written beside it."""
        data = self._memory.pop(address)
        for side, guard in (("before", data[:GUARD]), ("behind", data[-GUARD:])):
            written = np.flatnonzero(guard != 0xFF)
            if len(written):
                distance = GUARD - written[-1] if side == "before" else written[0]
                raise RuntimeError(
                    f"a kernel wrote {side} a piece of memory of {len(data) - 2 * GUARD} bytes, "
                    f"{distance} bytes from its {'start' if side == 'before' else 'end'}"
                )

    def zero(self, address: int, nbytes: int) -> None:
        """Overwrite memory with zeros."""
        ctypes.memset(address, 0, nbytes)

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
        for group in graph:
            for launch in reversed(group):
                try:
                    launch.function.run(launch.arguments, launch.grid)
                except ThreadsDiverged as error:
                    raise BackendUnavailable(f"CUDA device {self.name}: {error}") from error

    def free_graph(self, graph: Sequence[Sequence[Launch]]) -> None:
        """Forget a graph."""

    def close(self) -> None:
        """Check and free what was left."""
        for address in list(self._memory):
            self.free(address)


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 1 << 34
