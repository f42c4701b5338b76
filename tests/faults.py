"""Memory that runs out, and devices that fail: the n-th call of a backend's allocations raises."""

import gc
import mmap
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

from jitllm.backends import _array_pool, reference
from jitllm.backends._c_device import CDevice
from jitllm.backends._cpu import memory as cpu_memory
from jitllm.backends._cpu import threads as cpu_threads
from jitllm.backends._cuda.simulator import Simulator
from jitllm.backends._split import program as split_program
from jitllm.backends.base import BackendUnavailable

_MAKERS = ("zeros", "empty", "array")
_CALLS = ("alloc", "zero", "upload", "pipeline", "begin", "end")
_RUN = ("upload", "download", "begin", "end", "run", "alloc")
_OF_DRIVER = {"alloc": "allocate", "pipeline": "load", "begin": "graph"}  # the simulator's names
_LEAST = 256  # bytes; what is smaller is no memory of a model


class Faults:
    """Counts allocations; the one numbered `at` fails.

    Attributes
    ----------
    count : int
        Of allocations so far.
    handles : int
        Pieces of memory and recordings that devices hold.
    is_lost : bool
        All that come after it fail, too.
    """

    def __init__(self, at: int | None = None, calls: tuple[str, ...] = _CALLS) -> None:
        self.at, self.count, self.calls, self.handles = at, 0, calls, 0
        self.is_lost = False
        self._made: list[weakref.ref[Any]] = []

    def hit(self) -> bool:
        """Count an allocation; whether it is one that fails."""
        self.count += 1
        place = self.count - 1
        return self.at is not None and (place == self.at or (self.is_lost and place > self.at))

    def keep(self, made: Any) -> Any:
        """Note what was allocated."""
        self._made.append(weakref.ref(made))
        return made

    @property
    def alive(self) -> int:
        """Number of the arrays and mappings that are still there."""
        gc.collect()
        return sum(ref() is not None for ref in self._made)

    def numpy(self) -> Any:
        """Return a module like NumPy whose arrays are counted."""
        return _Module(np, {name: self._maker(getattr(np, name)) for name in _MAKERS})

    def _maker(self, function: Any) -> Any:
        def make(*args: Any, **options: Any) -> Any:
            made = function(*args, **options)
            if made.nbytes < _LEAST:
                return made
            if self.hit():
                raise MemoryError(f"no {made.nbytes} bytes left")
            return self.keep(made)

        return make

    def mmap(self) -> Any:
        """Return a module like mmap whose mappings are counted."""

        def make(fileno: int, length: int, **options: Any) -> Any:
            if self.hit():
                raise OSError(12, "Cannot allocate memory")
            return self.keep(mmap.mmap(fileno, length, **options))

        # the class stands for itself where it is compared with
        return _Module(mmap, {"mmap": _Mapping(make)})

    def call(self, original: Any) -> Any:
        """Return a method in the place of `CDevice.call`."""

        def call(device: Any, name: str, *arguments: Any) -> Any:
            if name in self.calls and self.hit():
                return None if name == "alloc" else 1
            result = original(device, name, *arguments)
            if name in ("alloc", "begin"):
                self.handles += 1
            elif name in ("free", "free_commands"):
                self.handles -= 1
            return result

        return call

    def driver(self, name: str) -> Any:
        """Return a method in the place of one of the CUDA simulator."""
        original = getattr(Simulator, name)
        fails = name in {_OF_DRIVER.get(call, call) for call in self.calls}

        def call(driver: Any, *arguments: Any) -> Any:
            if fails and self.hit():
                raise BackendUnavailable("CUDA device simulator: fails here")
            result = original(driver, *arguments)
            self.handles += {"allocate": 1, "free": -1}.get(name, 0)
            return result

        return call


class _Module:
    def __init__(self, module: Any, own: dict[str, Any]) -> None:
        self._module, self._own = module, own

    def __getattr__(self, name: str) -> Any:
        return self._own.get(name) or getattr(self._module, name)


class _Mapping(type):
    """A class that `isinstance` takes for `mmap.mmap`, and that calls a function."""

    def __new__(cls, make: Any) -> Any:
        return super().__new__(cls, "mmap", (), {})

    def __init__(cls, make: Any) -> None:
        super().__init__("mmap", (), {})
        cls._make = make

    def __call__(cls, *args: Any, **options: Any) -> Any:
        return cls._make(*args, **options)

    def __instancecheck__(cls, other: Any) -> bool:
        return isinstance(other, mmap.mmap)


@contextmanager
def faults(at: int | None = None, *, in_runs: bool = False) -> Iterator[Faults]:
    """Let allocation number `at` of all backends fail inside the block, or device calls of runs."""
    found = Faults(at, _RUN if in_runs else _CALLS)
    modules = [] if in_runs else [reference, _array_pool, cpu_threads, cpu_memory, split_program]
    patches = [patch.object(module, "np", found.numpy()) for module in modules]
    if not in_runs:
        patches.append(patch.object(cpu_memory, "mmap", found.mmap()))
    patches.append(patch.object(CDevice, "call", found.call(CDevice.call)))
    for name in ("allocate", "free", "upload", "download", "load", "graph", "run"):
        patches.append(patch.object(Simulator, name, found.driver(name)))
    for each in patches:
        each.start()
    try:
        yield found
    finally:
        for each in patches:
            each.stop()
