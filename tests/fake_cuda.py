"""The stand-in for NVIDIA's driver, `fake_cuda.c`: built, and with kernels that run."""

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from jitllm.backends._cuda.driver import CudaDriver
from jitllm.kernels.gpu import compiler as gpu_compiler
from jitllm.kernels.gpu import simulator as gpu_simulator

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = ("-std=c11", "-Wall", "-Wextra", "-Werror")
LIVE = ("memory", "modules", "streams", "graphs", "executables", "events", "contexts")
EVERYWHERE = np.array([(0, 1 << 62)], np.int64)
CALLBACK = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_uint)
)
_compile_ptx = gpu_compiler.ptx


def build(folder: Path) -> Any:
    """Compile the stand-in into a folder, and load it."""
    path = folder / "libfake.so"
    subprocess.run(["gcc", *FLAGS, "-shared", "-fPIC", "-o", str(path), str(SOURCE)], check=True)
    return ctypes.CDLL(str(path))


class Fake:
    """The stand-in; kernels whose PTX `ptx` made run in the simulator.

    Parameters
    ----------
    library : ctypes library
        From `build`.
    """

    def __init__(self, library: Any) -> None:
        self.library, self.launched = library, list[tuple[str, bytes, list[int]]]()
        self._kernels: dict[str, gpu_simulator.LoadedKernel] = {}
        self._callback, self.runs = CALLBACK(self._run), True
        library.fake_kernel(self._callback)

    def ptx(self, kernel: str, constants: tuple[int, ...], cc: tuple[int, int]) -> Any:
        """Stand for `gpu_compiler.ptx`."""
        code = _compile_ptx(kernel, constants, cc)
        loaded = gpu_simulator.LoadedKernel(gpu_compiler.host_object(kernel, constants))
        self._kernels[code.name] = loaded
        return code

    def driver(self, wanted: str = "", index: int = 0) -> CudaDriver:
        """A new driver over the stand-in."""
        return CudaDriver(wanted, self.library, index)

    def fail(self, function: str, status: int, calls: int = 0) -> None:
        """Let a function fail once, after so many calls."""
        self.library.fake_fail(function.encode(), status, calls)

    def live(self) -> dict[str, int]:
        """What was made and not freed."""
        counts = {name: self.library.fake_live(i) for i, name in enumerate(LIVE)}
        return {name: n for name, n in counts.items() if n}

    def _run(self, name: bytes, arguments: int, n: int, sizes: Any) -> None:
        data, whole = ctypes.string_at(arguments, n), [sizes[i] for i in range(6)]
        self.launched.append((name.decode(), data, whole))
        if self.runs:
            kernel = self._kernels[name.decode()]
            assert whole[3:] == [kernel.code.threads, 1, 1]
            kernel.run(data, (whole[0], whole[1], whole[2]), EVERYWHERE)
