"""The CUDA backend: kernels in Python that Numba and LLVM compile for NVIDIA's devices.

It needs the driver alone. Weights are packed as on the CPU. With precision "fast" products of
quantized weights take activations as int8, 32 to a scale; "exact" keeps float32.
"""

from functools import cache
from pathlib import Path
from typing import Any

from jitllm import kernels
from jitllm.backends._cpu.threads import ThreadPool
from jitllm.backends._cuda.chip import PLANNED
from jitllm.backends._cuda.device import CudaDevice, open_device
from jitllm.backends._cuda.lower import CudaLowering
from jitllm.backends._cuda.memory import PackedMatrix, upload_packed
from jitllm.backends._gpu.backend import GpuBackend, check_options
from jitllm.backends._gpu.device import Kernels
from jitllm.backends._gpu.lower import Lowering
from jitllm.backends._gpu.memory import Matrix
from jitllm.backends._gpu.rules import GpuRules
from jitllm.backends.base import Backend, Weight
from jitllm.backends.rules import ByteRules, TensorShape
from jitllm.kernels import formats


def open(
    n_threads: int | None = None, precision: str = "fast", index: int = 0, **options: Any
) -> Backend:
    """Open a CUDA device; JITLLM_CUDA=simulator opens one that runs on this processor.

    Parameters
    ----------
    n_threads : int or None
        Threads that pack weights; None means all this process may use.
    precision : str
        "fast" quantizes activations to int8 where weights are quantized; "exact" keeps float32.
    index : int
        Which of several devices.

    Raises
    ------
    BackendUnavailable
        If there is no driver or no fitting device.
    """
    check_options("cuda", precision, options)
    threads = ThreadPool(n_threads)
    try:
        return CudaBackend(open_device(index), threads, precision)
    except BaseException:
        threads.close()
        raise


def rules(n_threads: int | None = None, precision: str = "fast", **options: Any) -> ByteRules:
    """Return the bytes that `open` with the same options leads to."""
    check_options("cuda", precision, options)
    return CudaRules(precision)


class CudaBackend(GpuBackend):
    """One model on a CUDA device."""

    def __init__(self, device: CudaDevice, threads: ThreadPool, precision: str) -> None:
        super().__init__(device, _kernels())
        self._threads, self._exact, self._chip = threads, precision == "exact", device.chip

    def upload(self, weight: Weight) -> Matrix:
        """Return a packed matrix on the device."""
        return upload_packed(self.device, self._threads, weight)

    def lowering(self, *arguments: Any, **options: Any) -> Lowering:
        """Return what lowers a graph to CUDA's kernels."""
        return CudaLowering(self._exact, self._chip, self.kernels, *arguments, **options)

    def close(self) -> None:
        """Free everything, and stop the threads."""
        super().close()
        self._threads.close()


class CudaRules(GpuRules):
    """Bytes on a CUDA device; see `open`."""

    def __init__(self, precision: str) -> None:
        super().__init__(_kernels())
        self._exact = precision == "exact"

    def matrix(self, tensor: TensorShape) -> Matrix:
        """Return a packed matrix that has sizes only."""
        return PackedMatrix(None, tensor.type_name, tensor.shape)

    def lowering(self, *arguments: Any, **options: Any) -> Lowering:
        """Return what lowers a graph to CUDA's kernels."""
        return CudaLowering(self._exact, PLANNED, self.kernels, *arguments, **options)


@cache
def _kernels() -> Kernels:
    folder = Path(kernels.__file__).parent / "cuda"
    names, types = {path.stem for path in folder.glob("[a-z]*.py")}, frozenset(formats.names())

    def has(kernel: str) -> bool:
        name, dot, kind = kernel.partition(".")
        return name in names and (not dot or kind.upper() in types)

    return Kernels("cuda", types, has)
