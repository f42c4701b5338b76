"""The Vulkan backend: SPIR-V kernels on any device with a Vulkan driver.

Weights stay as they are in the file. All sums are float32, so the two precisions are one.
"""

import os
from functools import cache
from typing import Any

from jitllm.backends._c_device import Api, CDevice
from jitllm.backends._gpu.backend import GpuBackend, check_options
from jitllm.backends._gpu.device import Kernels
from jitllm.backends._gpu.rules import GpuRules
from jitllm.backends._vulkan_shaders import FOLDER, types
from jitllm.backends.base import Backend
from jitllm.backends.rules import ByteRules


def open(
    n_threads: int | None = None, precision: str = "fast", index: int = 0, **options: Any
) -> Backend:
    """Open the best Vulkan device, or the one that JITLLM_VULKAN_DEVICE is a part of the name of.

    Parameters
    ----------
    n_threads : int or None
        Changes nothing: the driver decides.
    precision : str
        "fast" or "exact"; both compute in float32.
    index : int
        Of several such devices, the next best ones have the numbers from 1 on.

    Raises
    ------
    BackendUnavailable
        If the library was not built, or there is no loader, driver or fitting device.
    """
    check_options("vulkan", precision, options)
    number = f"#{index}" if index else ""
    device = CDevice(_API, os.environ.get("JITLLM_VULKAN_DEVICE", "") + number)
    return GpuBackend(device, _kernels())


def rules(n_threads: int | None = None, precision: str = "fast", **options: Any) -> ByteRules:
    """Return the bytes that `open` with the same options leads to."""
    check_options("vulkan", precision, options)
    return GpuRules(_kernels())


@cache
def _kernels() -> Kernels:
    names = {path.stem for path in FOLDER.glob("*.spv")}
    return Kernels("vulkan", types(), names.__contains__)


def _code(kernel: str) -> bytes:
    return (FOLDER / f"{kernel}.spv").read_bytes()


_API = Api("Vulkan", "_jit_vulkan", "jv_", _code)
