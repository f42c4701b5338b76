"""Runs GPU kernels in the simulator on NumPy arrays.

Every kernel runs twice, its threads in ascending and in descending order: if the bits differ, a
barrier is missing. In the second run every access is watched for races too.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
from gpu_on_device import compare, device

from jitllm.kernels import host
from jitllm.kernels.gpu import compiler as gpu_compiler
from jitllm.kernels.gpu import host as gpu_host
from jitllm.kernels.gpu import neutral as gpu_neutral
from jitllm.kernels.gpu import ptx as gpu_ptx
from jitllm.kernels.gpu import races
from jitllm.kernels.gpu import simulator as gpu_simulator
from jitllm.kernels.gpu.compiler import Code

GUARD = 4096  # bytes before and behind an array that no kernel may touch
Array = npt.NDArray[Any]
_numbers = count()
_loaded: dict[Any, gpu_simulator.LoadedKernel] = {}


def launch(
    name: str,
    constants: Sequence[int],
    arguments: Sequence[Any],
    grid: int | Sequence[int],
    fmt: str = "",
) -> None:
    """Run a kernel of `kernels/cuda`; it reads and writes the arrays among the arguments.

    Parameters
    ----------
    name : str
        The kernel's file.
    constants : sequence of int
        What its factory takes.
    arguments : sequence
        For an address a contiguous array, None, or a number; numbers for the others. An array that
        is given twice is the same memory.
    grid : int or (int, int, int)
        Workgroups.
    fmt : str
        Tensor type of kernels that are made for one.
    """
    kernel = f"{name}.{fmt.lower()}" if fmt else name
    key = kernel, tuple(int(constant) for constant in constants)
    if key not in _loaded:
        _loaded[key] = gpu_simulator.LoadedKernel(gpu_compiler.host_object(*key))
    run(_loaded[key], arguments, grid, lambda cc: gpu_compiler.ptx(*key, cc))


def launch_function(
    function: Any,
    threads: int,
    arguments: Sequence[Any],
    grid: int | Sequence[int] = 1,
    *,
    is_watched: bool = True,
) -> None:
    """Run a function that is written as kernels are."""

    def ptx(cc: tuple[int, int]) -> Code:
        neutral = gpu_neutral.of_function(function, threads)
        text = gpu_ptx.generate(neutral, "entry", gpu_ptx.target_of(cc))
        return gpu_compiler.of_neutral(neutral, "entry", text.encode())

    run(load_function(function, threads), arguments, grid, ptx, is_watched=is_watched)


def load_function(function: Any, threads: int) -> gpu_simulator.LoadedKernel:
    """Compile such a function for the simulator, once."""
    key = id(function), threads
    if key not in _loaded:
        neutral = gpu_neutral.of_function(function, threads)
        symbol = f"{gpu_compiler.SYMBOL_PREFIX}test{next(_numbers)}"
        code = gpu_compiler.of_neutral(neutral, symbol, gpu_host.generate(neutral, symbol))
        _loaded[key] = gpu_simulator.LoadedKernel(code)
        _kept.append(function)
    return _loaded[key]


_kept: list[Any] = []  # so that no other function gets their ids


def run(
    kernel: gpu_simulator.LoadedKernel,
    arguments: Sequence[Any],
    grid: int | Sequence[int],
    ptx: Callable[[tuple[int, int]], Code],
    *,
    is_watched: bool = True,
) -> None:
    """Run a loaded kernel twice, and compare; on a GPU too if tests are to use one."""
    sizes = [grid] if isinstance(grid, int) else list(grid)
    x, y, z = sizes + [1] * (3 - len(sizes))
    whole = x, y, z
    watchers = None, _races() if is_watched else None
    results = [_run(kernel, arguments, whole, bool(i), one) for i, one in enumerate(watchers)]
    for forward, backward in zip(*results, strict=True):
        if not np.array_equal(forward, backward):
            differ = np.flatnonzero(forward != backward)
            raise AssertionError(
                f"{kernel.code.name}: bytes {differ[:8]} depend on the order of threads: "
                "a barrier is missing"
            )
    if driver := device():
        compare(driver, ptx, arguments, whole, results[0])
    arrays = {id(a): a for a in arguments if isinstance(a, np.ndarray)}
    for array, data in zip(arrays.values(), results[0], strict=True):
        array.reshape(-1).view(np.uint8)[:] = data


@cache
def _races() -> races.Races:
    return races.Races()


def _run(
    kernel: gpu_simulator.LoadedKernel,
    arguments: Sequence[Any],
    grid: Any,
    is_reversed: bool,
    watcher: races.Races | None,
) -> list[npt.NDArray[np.uint8]]:
    """Run once on copies of the arrays; returns the copies."""
    memory: dict[int, npt.NDArray[np.uint8]] = {}
    values = []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            if id(argument) not in memory:
                memory[id(argument)] = _guarded(argument)
            argument = memory[id(argument)].ctypes.data + GUARD
        values.append(0 if argument is None else argument)
    packed = gpu_simulator.packed(kernel.code.parameters, values)
    pieces = _allowed(list(memory.values()))
    if watcher:
        watcher.begin()
    kernel.run(packed, grid, pieces, is_reversed=is_reversed, watcher=watcher)
    return [data[GUARD:-GUARD] for data in memory.values()]


def _allowed(memory: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.int64]:
    """Return all addresses but those beside the arrays: arrays may hold addresses of others."""
    ends = [0]
    for at, n in sorted((int(data.ctypes.data), len(data)) for data in memory):
        ends += [at, at + GUARD, at + n - GUARD, at + n]
    return np.array([*ends, 1 << 62], np.int64).reshape(-1, 2)


def _guarded(array: Array) -> npt.NDArray[np.uint8]:
    if not array.flags.c_contiguous:
        raise ValueError("arrays of kernels must be contiguous")
    data = host.aligned(array.nbytes + 2 * GUARD, GUARD)
    data[GUARD:-GUARD] = array.reshape(-1).view(np.uint8)
    return data
