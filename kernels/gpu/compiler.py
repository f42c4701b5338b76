"""Compile GPU kernels and keep their code on disk; code that is there needs no Numba.

A kernel is a file of `jitllm.kernels.cuda`, written as `jitllm.kernels.gpu.vocabulary` says. It
becomes PTX (`ptx`) for NVIDIA's driver, or machine code of this processor (`host_object`) for the
simulator.
"""

import json
import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jitllm.kernels import code_files, jit
from jitllm.kernels import level as levels
from jitllm.kernels.folders import cache_root
from jitllm.kernels.gpu import neutral as gpu_neutral
from jitllm.kernels.gpu import ptx as gpu_ptx
from jitllm.kernels.gpu.neutral import Neutral

log = logging.getLogger("jitllm.kernels")

SYMBOL_PREFIX = "jitllm:cuda."  # of the functions in object files

_FOLDER = Path(__file__).parents[1]  # of all kernels
_lock = threading.RLock()


@dataclass(frozen=True)
class Code:
    """A compiled kernel.

    Attributes
    ----------
    name : str
        What its entry is called.
    threads : int
        Threads of a workgroup.
    parameters : str
        A letter for each parameter: A (8 bytes), U, F (4 bytes).
    shared : int
        Bytes that a workgroup shares.
    sites : tuple of str
        The function that each call which synchronizes stands in.
    accesses : tuple of str
        The places in the source that load and store.
    data : bytes
        PTX text, or an object file.
    """

    name: str
    threads: int
    parameters: str
    shared: int
    sites: tuple[str, ...]
    accesses: tuple[str, ...]
    data: bytes

    @property
    def argument_bytes(self) -> int:
        """Bytes of packed arguments."""
        return sum(8 if letter == "A" else 4 for letter in self.parameters)


def ptx(kernel: str, constants: tuple[int, ...], cc: tuple[int, int]) -> Code:
    """Return a kernel's PTX for devices of compute capability `cc`.

    Parameters
    ----------
    kernel : str
        Name of a file in `kernels/cuda`, then, where there is one for each tensor type, a dot and
        the type in lower case.
    constants : tuple of int
        What its factory takes.
    cc : (int, int)

    Raises
    ------
    ValueError
        If there is no such kernel, it is not written as kernels are, or the device is too old.
    """
    least = gpu_ptx.target_of(cc)
    entry = re.sub(r"\W", "_", f"jitllm_{_name(kernel, constants)}")
    return _code(
        f"sm{least[0]}{least[1]}", entry, kernel, constants,
        lambda neutral: gpu_ptx.generate(neutral, entry, least).encode(),
    )  # fmt: skip


def host_object(kernel: str, constants: tuple[int, ...]) -> Code:
    """Return a kernel's object file for this processor; see `ptx` and `gpu_simulator`."""
    from jitllm.kernels.gpu import host as gpu_host

    symbol = f"{SYMBOL_PREFIX}{_name(kernel, constants)}"
    return _code(
        f"host-{levels.current().name}", symbol, kernel, constants,
        lambda neutral: gpu_host.generate(neutral, symbol),
    )  # fmt: skip


def _name(kernel: str, constants: tuple[int, ...]) -> str:
    return "-".join([kernel, *(str(int(constant)) for constant in constants)])


def _code(
    target: str, entry: str, kernel: str, constants: tuple[int, ...],
    generate: Callable[[Neutral], bytes],
) -> Code:  # fmt: skip
    """Read a kernel's code from its file, or make both."""
    name = _name(kernel, constants)
    folder = cache_root() / "cuda" / f"{target}-{_compiler_hash()}"
    path = folder / f"{name}-{_source_hash(kernel.partition('.')[0])}.code"
    with _lock:
        stored = code_files.read(path)
        if stored is not None:
            return _unpack(stored)
        jit.announce(f"cuda.{name}")
        start = time.perf_counter()
        neutral = gpu_neutral.generate(kernel, constants)
        code = of_neutral(neutral, entry, generate(neutral))
        log.info("compiled cuda.%s in %.2f s", name, time.perf_counter() - start)
        code_files.store(path, _pack(code))
        code_files.prune(path)
        return code


def of_neutral(neutral: Neutral, entry: str, data: bytes) -> Code:
    """Return the code that was made of a kernel's IR."""
    return Code(
        entry, neutral.threads, neutral.parameters, neutral.shared, neutral.sites,
        neutral.accesses, data,
    )  # fmt: skip


def _pack(code: Code) -> bytes:
    """Return a line of JSON, and the data."""
    fields = {**vars(code)}
    data = fields.pop("data")
    return json.dumps(fields).encode() + b"\n" + bytes(data)


def _unpack(stored: bytes) -> Code:
    head, _, data = stored.partition(b"\n")
    fields: dict[str, Any] = json.loads(head)
    fields |= {name: tuple(fields[name]) for name in ("sites", "accesses")}
    return Code(**fields, data=data)


@cache
def _compiler_hash() -> str:
    """Return a hash of the compiler's version and of the processor, which PTX does not need."""
    return code_files.source_hash([], *jit.processor())


@cache
def _makers() -> frozenset[Path]:
    """Return the files of what makes code of kernels."""
    mine = ("compiler", "host", "loops", "neutral", "ptx")
    names = ("compiler", "library", *(f"gpu/{name}" for name in mine))
    return code_files.sources_of(*(_FOLDER / f"{name}.py" for name in names))


@cache
def _source_hash(kernel: str) -> str:
    """Return a hash of a kernel's file, of what makes code of it, and of all that these import."""
    path = _FOLDER / "cuda" / f"{kernel}.py"
    return code_files.source_hash(code_files.sources_of(*[path][: path.is_file()], known=_makers()))
