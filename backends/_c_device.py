"""Devices behind a library in C, through ctypes: Vulkan's and Metal's have the same functions."""

import ctypes
import importlib.machinery
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.backends._gpu.device import Commands, Device, Grid, Memory, whole_words
from jitllm.backends.base import BackendUnavailable, DeviceMemory

ARGUMENT_BYTES = 128  # what every device has room for
_POINTER, _SIZE, _WORD, _INT = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_int
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "open": (_POINTER, (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t)),
    "close": (None, (_POINTER,)),
    "error": (ctypes.c_char_p, (_POINTER,)),
    "name": (ctypes.c_char_p, (_POINTER,)),
    "is_cpu": (_INT, (_POINTER,)),
    "max_allocation": (_SIZE, (_POINTER,)),
    "memory": (None, (_POINTER, _POINTER, _POINTER)),
    "alloc": (_POINTER, (_POINTER, _SIZE, _INT)),
    "free": (None, (_POINTER, _POINTER)),
    "address": (_SIZE, (_POINTER,)),
    "mapped": (_POINTER, (_POINTER,)),
    "zero": (_INT, (_POINTER, _POINTER)),
    "copy": (_INT, (_POINTER, _POINTER, _SIZE, _POINTER, _SIZE, _SIZE)),
    "upload": (_INT, (_POINTER, _POINTER, _SIZE, _POINTER, _SIZE)),
    "download": (_INT, (_POINTER, _POINTER, _SIZE, _POINTER, _SIZE)),
    "pipeline": (_INT, (_POINTER, ctypes.c_char_p, _SIZE, _POINTER, _WORD, _POINTER)),
    "free_pipeline": (None, (_POINTER, _POINTER)),
    "begin": (_INT, (_POINTER, _POINTER)),
    "barrier": (None, (_POINTER, _POINTER)),
    "dispatch": (None, (_POINTER, _POINTER, _POINTER, ctypes.c_char_p) + (_WORD,) * 4),
    "end": (_INT, (_POINTER, _POINTER)),
    "run": (_INT, (_POINTER, _POINTER)),
    "free_commands": (None, (_POINTER, _POINTER)),
}


@dataclass(frozen=True, slots=True)
class Api:
    """A library and what its kernels are made of.

    Attributes
    ----------
    title : str
        What messages call it.
    library : str
        Its file beside this one, without what the system appends.
    prefix : str
        Of its functions.
    code : callable
        Returns the bytes that the library makes a kernel of, by its name.
    """

    title: str
    library: str
    prefix: str
    code: Callable[[str], bytes]


@cache
def _functions(api: Api) -> dict[str, Callable[..., Any]]:
    """Load the library; `BackendUnavailable` if it was not built."""
    folder = Path(__file__).parent
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    paths = [folder / f"{api.library}{suffix}" for suffix in suffixes]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        raise BackendUnavailable(
            f"the {api.title} backend was not built: jitllm was installed where no C compiler was "
            "found; install one (Debian: apt-get install gcc) and reinstall jitllm from its source"
        )
    library, functions = ctypes.CDLL(str(path)), {}
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, f"{api.prefix}{name}")
        function.restype, function.argtypes = result, arguments
        functions[name] = function
    return functions


class CMemory(Memory):
    """Memory of a device behind a library."""

    def __init__(self, device: "CDevice", handle: int, nbytes: int) -> None:
        self._device, self._handle, self.nbytes = device, handle, nbytes
        self.address = int(device.call("address", handle))

    def upload(self, data: npt.NDArray[Any], start: int = 0) -> None:
        """Copy an array to the bytes from `start` on."""
        data = np.ascontiguousarray(data)
        self._check(start, data.nbytes)
        self._device.checked("upload", self._handle, start, data.ctypes.data, data.nbytes)

    def download(self, out: npt.NDArray[Any], start: int = 0) -> None:
        """Fill a contiguous array with the bytes from `start` on."""
        self._check(start, out.nbytes)
        self._device.checked("download", self._handle, start, out.ctypes.data, out.nbytes)

    def copy_from(self, source: "CMemory", start: int, target: int, nbytes: int) -> None:
        """Copy bytes of other memory, which do not overlap these."""
        self._check(target, nbytes)
        source._check(start, nbytes)
        self._device.checked("copy", source._handle, start, self._handle, target, nbytes)

    def free(self) -> None:
        """Give the memory back; it must not be in use."""
        if self._handle:
            self._device.call("free", self._handle)
        self._handle, self.nbytes = 0, 0

    def _check(self, start: int, nbytes: int) -> None:
        if start < 0 or start + nbytes > self.nbytes:
            raise ValueError(f"bytes {start} to {start + nbytes} of {self.nbytes}")


class CCommands(Commands):
    """A recording of a device behind a library."""

    def __init__(self, device: "CDevice") -> None:
        self._device, handle = device, ctypes.c_void_p()
        device.checked("begin", ctypes.addressof(handle))
        self._handle = handle.value

    def dispatch(self, pipeline: int, arguments: bytes, grid: Grid) -> None:
        """Add workgroups of a pipeline, with these arguments."""
        assert len(arguments) <= ARGUMENT_BYTES
        call = self._device.call
        call("dispatch", self._handle, pipeline, arguments, len(arguments), *grid)

    def barrier(self) -> None:
        """Let what follows see all that was written before."""
        self._device.call("barrier", self._handle)

    def end(self) -> None:
        """Finish recording."""
        self._device.checked("end", self._handle)

    def run(self) -> None:
        """Run all of it, and wait."""
        self._device.checked("run", self._handle)

    def free(self) -> None:
        """Forget the list."""
        if self._handle:
            self._device.call("free_commands", self._handle)
        self._handle = None


class CDevice(Device):
    """A device behind a library.

    Parameters
    ----------
    api : Api
    wanted : str
        A part of the device's name; "" leaves the choice to the library.

    Raises
    ------
    BackendUnavailable
        If there is none that can be used; from all methods, if the device fails.
    """

    def __init__(self, api: Api, wanted: str = "") -> None:
        self._api, self._functions, self._lock = api, _functions(api), threading.Lock()
        error = ctypes.create_string_buffer(512)
        self._handle = self._functions["open"](wanted.encode(), error, len(error))
        if not self._handle:
            raise BackendUnavailable(f"{api.title}: {error.value.decode('utf-8', 'replace')}")
        self.name = self.call("name").decode("utf-8", "replace")
        self._label = f"{api.title} device {self.name}"
        self.is_cpu = bool(self.call("is_cpu"))
        self.max_allocation = int(self.call("max_allocation"))
        self._pipelines: dict[tuple[str, tuple[int, ...]], int] = {}

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the C library."""
        function = self._functions[name]
        if name in ("address", "mapped"):
            return function(*arguments)
        if not self._handle:
            raise BackendUnavailable(f"the {self._api.title} device was closed")
        with self._lock:
            return function(self._handle, *arguments)

    def checked(self, name: str, *arguments: Any) -> None:
        """Call a function that may fail."""
        if self.call(name, *arguments):
            raise BackendUnavailable(f"{self._label}: {self._reason()}")

    def _reason(self) -> str:
        """What failed last, as far as the library had room for it."""
        return str(self.call("error").decode("utf-8", "replace"))

    def memory(self) -> DeviceMemory:
        """Return its bytes; see `Device.memory`."""
        total, free = _SIZE(), _SIZE()
        self.call("memory", ctypes.addressof(total), ctypes.addressof(free))
        return DeviceMemory(total.value, free.value)

    def allocate(self, nbytes: int, *, on_host: bool = False) -> Memory:
        """Return zeroed memory; see `Device.allocate`."""
        nbytes = whole_words(nbytes)
        if nbytes > self.max_allocation:
            raise BackendUnavailable(
                f"{self._label} allocates at most {self.max_allocation} bytes at once; "
                f"{nbytes} are needed"
            )
        handle = self.call("alloc", nbytes, int(on_host))
        if not handle:
            raise BackendUnavailable(f"{self._label}: {nbytes} bytes: {self._reason()}")
        memory = CMemory(self, handle, nbytes)
        try:
            self.checked("zero", handle)
        except BackendUnavailable:
            memory.free()
            raise
        return memory

    def pipeline(self, kernel: str, constants: tuple[int, ...]) -> int:
        """Return the kernel with these static constants, made once."""
        key = kernel, constants
        if key not in self._pipelines:
            code, out = self._api.code(kernel), ctypes.c_void_p()
            values = np.array(constants, np.uint32)
            where = ctypes.addressof(out)
            self.checked("pipeline", code, len(code), values.ctypes.data, len(values), where)
            self._pipelines[key] = out.value or 0
        return self._pipelines[key]

    def commands(self) -> Commands:
        """Begin a recording."""
        return CCommands(self)

    def close(self) -> None:
        """Free the device; all its memory must be free already."""
        if not self._handle:
            return
        for pipeline in self._pipelines.values():
            self.call("free_pipeline", pipeline)
        self._pipelines.clear()
        self._functions["close"](self._handle)
        self._handle = None
