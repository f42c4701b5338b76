"""What the CUDA device asks of a driver: NVIDIA's, or the simulator."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from jitllm.backends._gpu.device import Grid
from jitllm.backends.base import DeviceMemory
from jitllm.kernels.gpu.compiler import Code


@dataclass(frozen=True)
class Launch:
    """A kernel, as `Driver.load` returns it, with packed arguments and numbers of workgroups."""

    function: Any
    arguments: bytes
    grid: Grid


class Driver(ABC):
    """A device's memory by address, its kernels, and graphs of launches.

    All methods raise `BackendUnavailable` if the device fails.

    Attributes
    ----------
    name : str
    capability : (int, int)
        Compute capability.
    multiprocessors : int
    total_bytes : int
        Its memory.
    is_cpu : bool
        Whether kernels are object files for this processor, in place of PTX.
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    total_bytes: int
    is_cpu: bool

    @abstractmethod
    def memory(self) -> DeviceMemory:
        """Return all bytes of the device, and those that are free."""

    @abstractmethod
    def allocate(self, nbytes: int) -> int:
        """Return the address of new memory, zeroed; it is a multiple of 256."""

    @abstractmethod
    def free(self, address: int) -> None:
        """Give memory back."""

    @abstractmethod
    def upload(self, address: int, data: npt.NDArray[Any]) -> None:
        """Copy a contiguous array to the device."""

    @abstractmethod
    def download(self, out: npt.NDArray[Any], address: int) -> None:
        """Fill a contiguous array from the device."""

    @abstractmethod
    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy within the device."""

    @abstractmethod
    def load(self, code: Code) -> Any:
        """Return a kernel to launch; its `code` is this one."""

    @abstractmethod
    def unload(self, function: Any) -> None:
        """Forget a kernel."""

    @abstractmethod
    def graph(self, groups: Sequence[Sequence[Launch]]) -> Any:
        """Return a graph in which the launches of a group wait for all of the group before."""

    @abstractmethod
    def run(self, graph: Any) -> None:
        """Run a graph, and wait."""

    @abstractmethod
    def seconds(self, graph: Any) -> float:
        """Run a graph, and wait; returns how long the device took."""

    @abstractmethod
    def free_graph(self, graph: Any) -> None:
        """Forget a graph."""

    @abstractmethod
    def close(self) -> None:
        """Leave the device."""
