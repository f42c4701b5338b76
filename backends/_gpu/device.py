"""What the GPU backends ask of a device: memory by address, kernels by name, recorded runs.

A kernel gets packed arguments: addresses of 8 bytes, then words of 4. Its static constants are
integers, for which each device makes a pipeline of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from jitllm.backends.base import DeviceMemory

Grid = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Kernels:
    """The kernels of a backend, known without a device.

    Attributes
    ----------
    backend : str
        Its name, for messages.
    types : frozenset of str
        Tensor types that kernels read.
    has : callable
        Whether there is a kernel of that name.
    """

    backend: str
    types: frozenset[str]
    has: Callable[[str], bool]


class Memory(ABC):
    """A piece of device memory: `nbytes` bytes, at `address` for kernels."""

    address: int
    nbytes: int

    @abstractmethod
    def upload(self, data: npt.NDArray[Any], start: int = 0) -> None:
        """Copy an array to the bytes from `start` on."""

    @abstractmethod
    def download(self, out: npt.NDArray[Any], start: int = 0) -> None:
        """Fill a contiguous array with the bytes from `start` on."""

    @abstractmethod
    def copy_from(self, source: Any, start: int, target: int, nbytes: int) -> None:
        """Copy bytes of other memory of the same device, which do not overlap these."""

    @abstractmethod
    def free(self) -> None:
        """Give the memory back; it must not be in use."""


class Commands(ABC):
    """A recorded list of dispatches, run as often as wanted."""

    @abstractmethod
    def dispatch(self, pipeline: Any, arguments: bytes, grid: Grid) -> None:
        """Add workgroups of a pipeline, with these arguments."""

    @abstractmethod
    def barrier(self) -> None:
        """Let what follows see all that was written before."""

    @abstractmethod
    def end(self) -> None:
        """Finish recording."""

    @abstractmethod
    def run(self) -> None:
        """Run all of it, and wait."""

    @abstractmethod
    def free(self) -> None:
        """Forget the list."""


class Device(ABC):
    """A device. Threads take turns; all methods raise `BackendUnavailable` if it fails.

    Attributes
    ----------
    name : str
    max_allocation : int
        Bytes of the largest piece of memory.
    is_cpu : bool
        Whether a processor does the work in its place.
    """

    name: str
    max_allocation: int
    is_cpu: bool

    @abstractmethod
    def memory(self) -> DeviceMemory:
        """Return all bytes of the device, and those that are free."""

    @abstractmethod
    def allocate(self, nbytes: int, *, on_host: bool = False) -> Memory:
        """Return zeroed memory of `whole_words(nbytes)` bytes.

        `on_host` is for what the host writes and reads at every run.
        """

    @abstractmethod
    def pipeline(self, kernel: str, constants: tuple[int, ...]) -> Any:
        """Return the kernel with these static constants, made once."""

    @abstractmethod
    def commands(self) -> Commands:
        """Begin a recording."""

    @abstractmethod
    def close(self) -> None:
        """Free the device; all its memory must be free already."""


def whole_words(nbytes: int) -> int:
    """Return the bytes that are allocated where so many are asked for."""
    return -(-max(nbytes, 4) // 4) * 4
