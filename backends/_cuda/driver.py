"""NVIDIA's driver through ctypes: memory, kernels from PTX, graphs of launches. No CUDA toolkit."""

import ctypes
import logging
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from jitllm.backends._cuda.api import Driver, Launch
from jitllm.backends.base import BackendUnavailable, DeviceMemory
from jitllm.kernels.gpu.compiler import Code

log = logging.getLogger("jitllm.cuda")

_P, _SIZE, _U64, _INT, _WORD = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint64, ctypes.c_int, ctypes.c_uint,
)  # fmt: skip
# Versions of functions as in the headers since CUDA 3.2 (2010), of graphs since 11.4.
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cuInit": (_WORD,),
    "cuGetErrorName": (_INT, _P),
    "cuGetErrorString": (_INT, _P),
    "cuDeviceGetCount": (_P,),
    "cuDeviceGet": (_P, _INT),
    "cuDeviceGetName": (_P, _INT, _INT),
    "cuDeviceGetAttribute": (_P, _INT, _INT),
    "cuDeviceTotalMem_v2": (_P, _INT),
    "cuDevicePrimaryCtxRetain": (_P, _INT),
    "cuDevicePrimaryCtxRelease_v2": (_INT,),
    "cuCtxPushCurrent_v2": (_P,),
    "cuCtxPopCurrent_v2": (_P,),
    "cuMemGetInfo_v2": (_P, _P),
    "cuMemAlloc_v2": (_P, _SIZE),
    "cuMemFree_v2": (_U64,),
    "cuMemcpyHtoDAsync_v2": (_U64, _P, _SIZE, _P),
    "cuMemcpyDtoHAsync_v2": (_P, _U64, _SIZE, _P),
    "cuMemcpyDtoDAsync_v2": (_U64, _U64, _SIZE, _P),
    "cuMemsetD8Async": (_U64, ctypes.c_ubyte, _SIZE, _P),
    "cuModuleLoadDataEx": (_P, _P, _WORD, _P, _P),
    "cuModuleUnload": (_P,),
    "cuModuleGetFunction": (_P, _P, ctypes.c_char_p),
    "cuFuncGetAttribute": (_P, _INT, _P),
    "cuStreamCreate": (_P, _WORD),
    "cuStreamSynchronize": (_P,),
    "cuStreamDestroy_v2": (_P,),
    "cuGraphCreate": (_P, _WORD),
    "cuGraphAddKernelNode": (_P, _P, _P, _SIZE, _P),
    "cuGraphInstantiateWithFlags": (_P, _P, ctypes.c_ulonglong),
    "cuGraphLaunch": (_P, _P),
    "cuGraphExecDestroy": (_P,),
    "cuGraphDestroy": (_P,),
    "cuEventCreate": (_P, _WORD),
    "cuEventRecord": (_P, _P),
    "cuEventElapsedTime": (_P, _P, _P),
    "cuEventDestroy_v2": (_P,),
}
OUT_OF_MEMORY = 2
# After these the context is lost: every later call of the process fails.
FATAL = frozenset({214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719})
_FORKED = (
    "a CUDA device that was opened before a fork cannot be used after it: open it in the new "
    "process, and start that with multiprocessing's 'spawn' if this one has used CUDA"
)
_REASONS = {  # what the driver's own texts do not say
    3: f"; {_FORKED}",
    221: "; it is part of NVIDIA's driver: libnvidia-ptxjitcompiler.so.1",
    222: "; a driver of version 470 or newer is needed",
    223: "; is CUDA_DISABLE_PTX_JIT set?",
}
_SMALL, _MOST_UNREAD = 1 << 16, 256  # bytes that are copied, and how often, to upload them later
_MULTIPROCESSORS, _MAJOR, _MINOR = 16, 75, 76  # attributes of devices
_LOCAL_BYTES, _REGISTERS = 3, 4  # attributes of functions
_ERROR_LOG, _ERROR_LOG_BYTES = 5, 6  # options of modules
_NON_BLOCKING = 1
_END, _BUFFER_POINTER, _BUFFER_SIZE = 0, 1, 2  # words before what a launch's `extra` has


class _KernelNode(ctypes.Structure):
    """CUDA_KERNEL_NODE_PARAMS_v1."""

    _fields_ = [
        ("function", _P), ("grid", _WORD * 3), ("block", _WORD * 3), ("shared", _WORD),
        ("parameters", _P), ("extra", _P),
    ]  # fmt: skip


@dataclass(frozen=True)
class Function:
    """A kernel in a driver."""

    code: Code
    handle: int
    module: int


@dataclass(frozen=True)
class Graph:
    """A graph that can be launched, and what it was made of."""

    handle: int
    source: int


def library() -> Any:
    """Load the driver's library; `BackendUnavailable` if there is none."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        found: Any = ctypes.CDLL(name)
    except OSError as error:
        raise BackendUnavailable(
            f"CUDA needs NVIDIA's driver, and {name} cannot be loaded ({error}); without a GPU, "
            "JITLLM_CUDA=simulator tries kernels on this processor"
        ) from None
    return found


class CudaDriver(Driver):
    """A device of NVIDIA's driver. Threads take turns.

    Parameters
    ----------
    wanted : str
        A part of the device's name; "" for the first device.
    source : ctypes library or None
        By default that of the driver.
    index : int
        Of several such devices, this one.

    Raises
    ------
    BackendUnavailable
        If there is no such device; from all methods, if the device fails.
    """

    is_cpu = False

    def __init__(self, wanted: str = "", source: Any = None, index: int = 0) -> None:
        self._lock, self._lost, self._label = threading.RLock(), "", "CUDA"
        source = library() if source is None else source
        self._functions: dict[str, Any] = {}
        self._pid = os.getpid()
        self._unread: list[npt.NDArray[Any]] = []
        for name, arguments in FUNCTIONS.items():
            if not hasattr(source, name):
                raise BackendUnavailable(
                    f"NVIDIA's driver is too old: it lacks {name}, which 470 and newer have"
                )
            function = getattr(source, name)
            function.restype, function.argtypes = _INT, arguments
            self._functions[name] = function
        self._call("cuInit", 0)
        self._device, self.name = self._choose(wanted, index)
        self._label = f"CUDA device {self.name}"
        self.capability = self._attribute(_MAJOR), self._attribute(_MINOR)
        self.multiprocessors = self._attribute(_MULTIPROCESSORS)
        self.total_bytes = self._result(_SIZE, "cuDeviceTotalMem_v2", self._device)
        self._context = self._result(_P, "cuDevicePrimaryCtxRetain", self._device)
        try:
            self._stream = self._inside(lambda: self._result(_P, "cuStreamCreate", _NON_BLOCKING))
        except BackendUnavailable:
            self._functions["cuDevicePrimaryCtxRelease_v2"](self._device)
            raise

    # --- calls ---

    def _call(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver; `BackendUnavailable` if it fails."""
        if status := self._status(name, *arguments):
            raise self._failure(name, status)

    def _status(self, name: str, *arguments: Any) -> int:
        if self._is_lost():
            raise BackendUnavailable(self._lost)
        return int(self._functions[name](*arguments))

    def _is_lost(self) -> bool:
        """Return whether all that there was is gone; `_lost` says why."""
        if not self._lost and os.getpid() != self._pid:
            self._lost = f"{self._label}: {_FORKED}"
        return bool(self._lost)

    def _failure(self, name: str, status: int, reason: str = "") -> BackendUnavailable:
        error, text = (self._text(f"cuGetError{what}", status) for what in ("Name", "String"))
        message = f"{self._label}: {name}: {error} ({text}){_REASONS.get(status, '')}{reason}"
        if status in FATAL:
            self._lost = f"{message}; the device cannot be used again by this process"
        return BackendUnavailable(self._lost or message)

    def _text(self, name: str, status: int) -> str:
        out = ctypes.c_char_p()
        self._functions[name](status, ctypes.addressof(out))
        return (out.value or b"unknown").decode("utf-8", "replace")

    def _result(self, kind: Any, name: str, *arguments: Any) -> Any:
        """Call a function whose first argument is where its result goes."""
        out = kind()
        self._call(name, ctypes.addressof(out), *arguments)
        return out.value

    def _inside(self, work: Any) -> Any:
        """Do something with the device's context as the thread's current one."""
        if self._is_lost():  # a lock that was taken before a fork is never given back
            raise BackendUnavailable(self._lost)
        with self._lock:
            self._call("cuCtxPushCurrent_v2", self._context)
            try:
                return work()
            finally:
                popped = _P()
                self._functions["cuCtxPopCurrent_v2"](ctypes.addressof(popped))

    def _choose(self, wanted: str, index: int) -> tuple[int, str]:
        names, fitting = list[str](), list[tuple[int, str]]()
        for ordinal in range(self._result(_INT, "cuDeviceGetCount")):
            device, name = (
                self._result(_INT, "cuDeviceGet", ordinal),
                ctypes.create_string_buffer(256),
            )
            self._call("cuDeviceGetName", name, len(name), device)
            names.append(name.value.decode("utf-8", "replace"))
            if wanted.lower() in names[-1].lower():
                fitting.append((device, names[-1]))
        if index < len(fitting):
            return fitting[index]
        number = f" number {index}" if index else ""
        raise BackendUnavailable(f"CUDA: no device{number} is called {wanted!r}; there are {names}")

    def _attribute(self, number: int) -> int:
        return int(self._result(_INT, "cuDeviceGetAttribute", number, self._device))

    # --- memory ---

    def memory(self) -> DeviceMemory:
        """Return all bytes of the device, and those that are free."""
        free, total = _SIZE(), _SIZE()
        at = ctypes.addressof(free), ctypes.addressof(total)
        self._inside(lambda: self._call("cuMemGetInfo_v2", *at))
        return DeviceMemory(total.value, free.value)

    def allocate(self, nbytes: int) -> int:
        """Allocate; see `Driver.allocate`."""

        def work() -> int:
            address = _U64()
            status = self._status("cuMemAlloc_v2", ctypes.addressof(address), nbytes)
            if status == OUT_OF_MEMORY:
                there = self.memory()
                raise BackendUnavailable(
                    f"{self._label}: {nbytes} bytes are needed, {there.free} of {there.total} are "
                    "free"
                )
            if status:
                raise self._failure("cuMemAlloc_v2", status)
            try:
                self._call("cuMemsetD8Async", address.value, 0, nbytes, self._stream)
            except BackendUnavailable:
                self._functions["cuMemFree_v2"](address.value)
                raise
            return int(address.value)

        return int(self._inside(work))

    def free(self, address: int) -> None:
        """Give memory back."""
        if not self._is_lost():
            self._inside(lambda: self._call("cuMemFree_v2", address))

    def upload(self, address: int, data: npt.NDArray[Any]) -> None:
        """Copy a contiguous array to the device; see `_wait`."""
        is_small = data.nbytes <= _SMALL and len(self._unread) < _MOST_UNREAD
        source = data.copy() if is_small else data

        def work() -> None:
            at, n = source.ctypes.data, source.nbytes
            self._call("cuMemcpyHtoDAsync_v2", address, at, n, self._stream)
            self._unread.append(source)
            if not is_small:
                self._wait()

        self._inside(work)

    def _wait(self) -> None:
        """Wait for all work. The device may read arrays that are uploaded until then."""
        self._call("cuStreamSynchronize", self._stream)
        self._unread.clear()

    def download(self, out: npt.NDArray[Any], address: int) -> None:
        """Fill a contiguous array from the device."""

        def work() -> None:
            at, n = out.ctypes.data, out.nbytes
            self._call("cuMemcpyDtoHAsync_v2", at, address, n, self._stream)
            self._wait()

        self._inside(work)

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy within the device."""
        self._inside(
            lambda: self._call("cuMemcpyDtoDAsync_v2", target, source, nbytes, self._stream)
        )

    # --- kernels ---

    def load(self, code: Code) -> Function:
        """Have the driver compile PTX."""

        def work() -> Function:
            module = self._module(code)
            try:
                handle = self._result(_P, "cuModuleGetFunction", module, code.name.encode())
                local, registers = (
                    self._result(_INT, "cuFuncGetAttribute", number, handle)
                    for number in (_LOCAL_BYTES, _REGISTERS)
                )
            except BackendUnavailable:
                self._functions["cuModuleUnload"](module)
                raise
            log.debug("%s: %d registers, %d bytes of local memory", code.name, registers, local)
            return Function(code, handle, module)

        function: Function = self._inside(work)
        return function

    def _module(self, code: Code) -> int:
        module, messages = _P(), ctypes.create_string_buffer(8192)
        options = (_INT * 2)(_ERROR_LOG, _ERROR_LOG_BYTES)
        values = (_P * 2)(ctypes.addressof(messages), len(messages))
        text = ctypes.create_string_buffer(code.data)
        status = self._status(
            "cuModuleLoadDataEx", ctypes.addressof(module), ctypes.addressof(text), len(options),
            ctypes.addressof(options), ctypes.addressof(values),
        )  # fmt: skip
        if status:
            reason = messages.value.decode("utf-8", "replace").strip()
            raise self._failure("cuModuleLoadDataEx", status, f": {code.name}: {reason}")
        return int(module.value or 0)

    def unload(self, function: Function) -> None:
        """Forget a kernel."""
        if not self._is_lost():
            self._inside(lambda: self._call("cuModuleUnload", function.module))

    # --- graphs ---

    def graph(self, groups: Sequence[Sequence[Launch]]) -> Graph:
        """Return a graph in which the launches of a group wait for all of the group before."""

        def work() -> Graph:
            source = int(self._result(_P, "cuGraphCreate", 0))
            try:
                before: list[int] = []
                for group in groups:
                    before = [self._add(source, before, launch) for launch in group]
                handle = self._result(_P, "cuGraphInstantiateWithFlags", source, 0)
            except BackendUnavailable:
                self._functions["cuGraphDestroy"](source)
                raise
            return Graph(int(handle), source)

        graph: Graph = self._inside(work)
        return graph

    def _add(self, graph: int, before: Sequence[int], launch: Launch) -> int:
        nodes, n = (_P * len(before))(*before), _SIZE(len(launch.arguments))
        block = ctypes.create_string_buffer(launch.arguments, len(launch.arguments))
        extra = (_P * 5)(
            _BUFFER_POINTER, ctypes.addressof(block), _BUFFER_SIZE, ctypes.addressof(n), _END
        )
        node = _KernelNode(
            launch.function.handle, launch.grid, (launch.function.code.threads, 1, 1), 0, None,
            ctypes.addressof(extra),
        )  # fmt: skip
        return int(self._result(
            _P, "cuGraphAddKernelNode", graph, ctypes.addressof(nodes) if before else None,
            len(before), ctypes.addressof(node),
        ))  # fmt: skip

    def run(self, graph: Graph) -> None:
        """Run a graph, and wait."""

        def work() -> None:
            self._call("cuGraphLaunch", graph.handle, self._stream)
            self._wait()

        self._inside(work)

    def seconds(self, graph: Graph) -> float:
        """Run a graph; returns how long the device took."""

        def work() -> float:
            events = [self._result(_P, "cuEventCreate", 0) for _ in range(2)]
            try:
                self._call("cuEventRecord", events[0], self._stream)
                self._call("cuGraphLaunch", graph.handle, self._stream)
                self._call("cuEventRecord", events[1], self._stream)
                self._wait()
                return float(self._result(ctypes.c_float, "cuEventElapsedTime", *events)) / 1000
            finally:
                for event in events:
                    self._functions["cuEventDestroy_v2"](event)

        return float(self._inside(work))

    def free_graph(self, graph: Graph) -> None:
        """Forget a graph."""

        def work() -> None:
            self._call("cuGraphExecDestroy", graph.handle)
            self._call("cuGraphDestroy", graph.source)

        if not self._is_lost():
            self._inside(work)

    def close(self) -> None:
        """Leave the device."""
        if not self._is_lost():
            self._inside(lambda: self._call("cuStreamDestroy_v2", self._stream))
            self._call("cuDevicePrimaryCtxRelease_v2", self._device)
        self._lost = self._lost or "the CUDA device was closed"
