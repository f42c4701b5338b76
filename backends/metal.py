"""The Metal backend: the Vulkan backend's kernels, as Metal text, on Apple GPUs with macOS 13.

Weights stay as they are in the file. All sums are float32, so the two precisions are one.
"""

import os
from functools import cache
from typing import Any

from jitllm.backends._c_device import Api, CDevice
from jitllm.backends._gpu.backend import GpuBackend, check_options
from jitllm.backends._gpu.device import Kernels
from jitllm.backends._gpu.rules import GpuRules
from jitllm.backends._metal_shaders import FOLDER, types
from jitllm.backends.base import Backend
from jitllm.backends.rules import ByteRules


def open(n_threads: int | None = None, precision: str = "fast", **options: Any) -> Backend:
    """Open the system's Metal device, or the one that JITLLM_METAL_DEVICE is a part of the name of.

    Parameters
    ----------
    n_threads : int or None
        Changes nothing: the system decides.
    precision : str
        "fast" or "exact"; both compute in float32.

    Raises
    ------
    BackendUnavailable
        If the library was not built, or there is no Metal, or one that is too old.
    """
    check_options("metal", precision, options)
    device = CDevice(_API, os.environ.get("JITLLM_METAL_DEVICE", ""))
    return GpuBackend(device, _kernels())


def rules(n_threads: int | None = None, precision: str = "fast", **options: Any) -> ByteRules:
    """Return the bytes that `open` with the same options leads to."""
    check_options("metal", precision, options)
    return GpuRules(_kernels())


@cache
def _kernels() -> Kernels:
    names = {path.stem for path in FOLDER.glob("*.metal")}
    return Kernels("metal", types(), names.__contains__)


def _code(kernel: str) -> bytes:
    return (FOLDER / f"{kernel}.metal").read_bytes()


_API = Api("Metal", "_jit_metal", "jm_", _code)
