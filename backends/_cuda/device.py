"""The CUDA device that lowered graphs run on: NVIDIA's driver, or the simulator in its place."""

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.backends._cuda.api import Driver, Launch
from jitllm.backends._cuda.chip import chip_of
from jitllm.backends._cuda.driver import CudaDriver
from jitllm.backends._gpu.device import Commands, Device, Grid, Memory, whole_words
from jitllm.backends.base import BackendUnavailable, DeviceMemory
from jitllm.kernels.gpu import compiler as gpu_compiler
from jitllm.kernels.gpu import ptx as gpu_ptx


class CudaMemory(Memory):
    """Memory of a CUDA device."""

    def __init__(self, driver: Driver, nbytes: int) -> None:
        self._driver, self.nbytes = driver, nbytes
        self.address = driver.allocate(nbytes)

    def upload(self, data: npt.NDArray[Any], start: int = 0) -> None:
        """Copy an array to the bytes from `start` on."""
        data = np.ascontiguousarray(data)
        self._check(start, data.nbytes)
        if data.nbytes:
            self._driver.upload(self.address + start, data)

    def download(self, out: npt.NDArray[Any], start: int = 0) -> None:
        """Fill a contiguous array with the bytes from `start` on."""
        self._check(start, out.nbytes)
        if out.nbytes:
            self._driver.download(out, self.address + start)

    def copy_from(self, source: "CudaMemory", start: int, target: int, nbytes: int) -> None:
        """Copy bytes of other memory, which do not overlap these."""
        self._check(target, nbytes)
        source._check(start, nbytes)
        if nbytes:
            self._driver.copy(self.address + target, source.address + start, nbytes)

    def free(self) -> None:
        """Give the memory back; it must not be in use."""
        if self.nbytes:
            self.nbytes = 0
            self._driver.free(self.address)

    def _check(self, start: int, nbytes: int) -> None:
        if start < 0 or start + nbytes > self.nbytes:
            raise ValueError(f"bytes {start} to {start + nbytes} of {self.nbytes}")


class CudaCommands(Commands):
    """A graph of launches; those between two barriers may run at once."""

    def __init__(self, driver: Driver) -> None:
        self._driver, self._groups = driver, [list[Launch]()]
        self._graph: Any = None

    def dispatch(self, pipeline: Any, arguments: bytes, grid: Grid) -> None:
        """Add workgroups of a pipeline, with these arguments."""
        expected = pipeline.code.argument_bytes
        if len(arguments) != expected:
            raise ValueError(
                f"{pipeline.code.name} takes {expected} bytes of arguments "
                f"({pipeline.code.parameters}), got {len(arguments)}"
            )
        if all(grid):
            self._groups[-1].append(Launch(pipeline, arguments, grid))

    def barrier(self) -> None:
        """Let what follows see all that was written before."""
        if self._groups[-1]:
            self._groups.append([])

    def end(self) -> None:
        """Finish recording."""
        groups = [group for group in self._groups if group]
        self._graph, self._groups = (self._driver.graph(groups) if groups else None), []

    def run(self) -> None:
        """Run all of it, and wait."""
        if self._graph is not None:
            self._driver.run(self._graph)

    def free(self) -> None:
        """Forget the list."""
        if self._graph is not None:
            self._driver.free_graph(self._graph)
        self._graph = None


class CudaDevice(Device):
    """A device of a driver.

    Parameters
    ----------
    driver : Driver
    """

    def __init__(self, driver: Driver) -> None:
        self.driver, self.name, self.is_cpu = driver, driver.name, driver.is_cpu
        self.max_allocation = driver.total_bytes
        self.chip = chip_of(driver.capability, driver.name, driver.multiprocessors)
        self._pipelines: dict[tuple[str, tuple[int, ...]], Any] = {}
        self._closed = False

    def memory(self) -> DeviceMemory:
        """Return all bytes of the device, and those that are free."""
        return self.driver.memory()

    def allocate(self, nbytes: int, *, on_host: bool = False) -> CudaMemory:
        """Return zeroed memory; that for the host is on the device too."""
        return CudaMemory(self.driver, whole_words(nbytes))

    def pipeline(self, kernel: str, constants: tuple[int, ...]) -> Any:
        """Return the kernel with these static constants, made once."""
        key = kernel, tuple(int(constant) for constant in constants)
        if key not in self._pipelines:
            if self.is_cpu:
                code = gpu_compiler.host_object(*key)
            else:
                code = gpu_compiler.ptx(*key, self.driver.capability)
            self._pipelines[key] = self.driver.load(code)
        return self._pipelines[key]

    def commands(self) -> CudaCommands:
        """Begin a recording."""
        return CudaCommands(self.driver)

    def close(self) -> None:
        """Free the device; all its memory must be free already."""
        if not self._closed:
            self._closed = True
            for function in self._pipelines.values():
                self.driver.unload(function)
            self._pipelines.clear()
            self.driver.close()


def open_device(index: int = 0) -> CudaDevice:
    """Open the first CUDA device, or the one that JITLLM_CUDA_DEVICE is a part of the name of.

    With JITLLM_CUDA=simulator, none is needed.

    Parameters
    ----------
    index : int
        Of several such devices, this one.

    Raises
    ------
    BackendUnavailable
        If there is no such device, it is too old, or kernels cannot be simulated here.
    ValueError
        If JITLLM_CUDA has another value.
    """
    chosen = os.environ.get("JITLLM_CUDA", "")
    if chosen not in ("", "simulator"):
        raise ValueError(f"JITLLM_CUDA must be empty or 'simulator', got {chosen!r}")
    if chosen:
        return CudaDevice(_simulator())
    driver = CudaDriver(os.environ.get("JITLLM_CUDA_DEVICE", ""), index=index)
    try:
        gpu_ptx.target_of(driver.capability)
    except ValueError as error:
        name = driver.name
        driver.close()
        raise BackendUnavailable(f"CUDA device {name}: {error}") from None
    return CudaDevice(driver)


def _simulator() -> Driver:
    from jitllm.backends._cuda.simulator import Simulator
    from jitllm.kernels.gpu import host as gpu_host

    try:
        gpu_host.require()
    except ValueError as error:
        raise BackendUnavailable(f"the simulated CUDA device: {error}") from None
    return Simulator()
