"""Runs the launches of kernel tests on a real GPU too, with JITLLM_TEST_GPU=1.

Only kernels that read no addresses from memory can: arrays of tests hold those of this process.
"""

import os
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.backends._cuda.api import Driver, Launch
from jitllm.backends._cuda.driver import CudaDriver
from jitllm.kernels.gpu import simulator as gpu_simulator
from jitllm.kernels.gpu.compiler import Code

Array = npt.NDArray[Any]


@cache
def device() -> Driver | None:
    """Return the GPU, None if tests are not to use it."""
    return CudaDriver() if os.environ.get("JITLLM_TEST_GPU") else None


def compare(
    driver: Driver,
    make: Callable[[tuple[int, int]], Code],
    arguments: Sequence[Any],
    grid: tuple[int, int, int],
    results: Sequence[Array],
) -> bool:
    """Run a kernel and compare with what the simulator made of its arrays, in their order.

    Returns False if the kernel reads addresses. Floats may differ by a little, bytes by anything.
    """
    code = make(driver.capability)
    if re.search(rb"ld\.global\.\w*64", code.data):
        return False
    arrays = {id(x): x for x in arguments if isinstance(x, np.ndarray)}
    places = {key: driver.allocate(max(x.nbytes, 4)) for key, x in arrays.items()}
    for key, x in arrays.items():
        driver.upload(places[key], x)
    values = [places.get(id(x), 0 if x is None else x) for x in arguments]
    function = driver.load(code)
    graph = driver.graph([[Launch(function, gpu_simulator.packed(code.parameters, values), grid)]])
    driver.run(graph)
    driver.free_graph(graph)
    driver.unload(function)
    for (key, x), expected in zip(arrays.items(), results, strict=True):
        out = np.empty_like(x)
        driver.download(out, places[key])
        driver.free(places[key])
        _compare(code.name, out, np.ascontiguousarray(expected).view(x.dtype).reshape(x.shape))
    return True


def _compare(name: str, got: Array, expected: Array) -> None:
    if got.dtype.kind == "f":
        rtol, atol = (1e-5, 1e-6) if got.dtype.itemsize > 2 else (2e-3, 1e-6)
        assert np.allclose(got, expected, rtol, atol, equal_nan=True), f"{name} on the GPU"
    elif got.dtype != np.uint8:
        assert np.array_equal(got, expected), f"{name} on the GPU"
