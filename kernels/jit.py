"""Compile kernels with Numba, keep their machine code on disk, load it without Numba.

A kernel is a module-level function of `jitllm.kernels.cpu.<module>`, or what a factory there
returns for some static parameters. It has the C signature

    void kernel(intp args, intp thread, intp n_threads, intp counter)

where `args` points to int64 words (see `abi.Op`) and `counter` to an int64 that starts at zero for
every run of the op and hands out work. Functions with another signature say so in their module's
`SIGNATURES`. Only kernels that are asked for are compiled. The object files live in a folder named
by a hash of everything that decides their content, so a warm start never imports Numba: that
import alone costs more than loading all kernels of a model.
"""

import ctypes
import hashlib
import importlib
import logging
import os
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from jitllm.kernels import level as levels

log = logging.getLogger("jitllm.kernels")

SYMBOL = "jitllm_kernel"
DEFAULT_SIGNATURE = ("void", ("intp", "intp", "intp", "intp"))
_C_TYPES = {"void": None, "intp": ctypes.c_ssize_t, "float32": ctypes.c_float}

_engines: list[Any] = []  # own the loaded code; the process keeps it
_lock = threading.RLock()
_on_compile: list[Callable[[str], None]] = []


def on_compile(callback: Callable[[str], None]) -> Callable[[], None]:
    """Call `callback(kernel name)` before each compilation; returns a function that stops it."""
    _on_compile.append(callback)
    return lambda: _on_compile.remove(callback)


@cache
def cache_dir() -> Path:
    """Return the folder of this machine's, level's and source version's object files."""
    root = os.environ.get("JITLLM_CACHE")
    if not root:
        import platformdirs

        root = platformdirs.user_cache_dir("jitllm", appauthor=False)
    return Path(root) / "kernels" / f"{levels.current().name}-{_source_hash()}"


@cache
def _source_hash() -> str:
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in [*folder.glob("*.py"), *folder.glob("cpu/*.py"), *folder.glob("formats/*.py")]:
        digest.update(path.name.encode() + path.read_bytes())
    digest.update(f"{llvmlite.__version__} {llvm.get_host_cpu_name()}".encode())
    return digest.hexdigest()[:16]


def kernel_name(module: str, function: str, **params: Any) -> str:
    """Return the unique name of a kernel: its file, its function and its static parameters."""
    tail = "".join(f"-{key}={value}" for key, value in sorted(params.items()))
    return f"{module}.{function}{tail}"


@cache
def _signature(module: str, function: str) -> tuple[str, tuple[str, ...]]:
    from jitllm.kernels import signatures

    return signatures.SIGNATURES.get(f"{module}.{function}", DEFAULT_SIGNATURE)


def is_cached(module: str, function: str, **params: Any) -> bool:
    """Return whether the kernel's object file exists, so that using it compiles nothing."""
    return (cache_dir() / f"{kernel_name(module, function, **params)}.o").exists()


@cache
def _address(module: str, function: str, items: tuple[tuple[str, Any], ...]) -> int:
    with _lock:
        params = dict(items)
        path = cache_dir() / f"{kernel_name(module, function, **params)}.o"
        try:
            code = path.read_bytes()
        except OSError:
            code = compile_object(module, function, **params)
            _store(path, code)
        return _load(code)


def address(module: str, function: str, **params: Any) -> int:
    """Return the kernel's entry address, compiling it if no object file holds it yet.

    Parameters
    ----------
    module, function : str
        File in `kernels/cpu` and the function (or factory, when `params` are given) in it.
    **params
        Static parameters passed to the factory; str, int or bool.
    """
    return _address(module, function, tuple(sorted(params.items())))


@cache
def _callable(module: str, function: str, items: tuple[tuple[str, Any], ...]) -> Any:
    result, arguments = _signature(module, function)
    prototype = ctypes.CFUNCTYPE(_C_TYPES[result], *(_C_TYPES[a] for a in arguments))
    return prototype(_address(module, function, items))


def function(module: str, name: str, **params: Any) -> Any:
    """Return the kernel as a ctypes function; calling it releases the interpreter lock."""
    return _callable(module, name, tuple(sorted(params.items())))


def _store(path: Path, code: bytes) -> None:
    """Write atomically: another process may be compiling the same kernel."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        partial.write_bytes(code)
        partial.replace(path)
    except OSError as error:
        log.warning("kernel %s is not kept: %s", path.name, error)


@cache
def _prepare_llvm() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _machine(level: levels.Level) -> Any:
    _prepare_llvm()
    if level.triple and level.name != levels.current().name:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        target = llvm.Target.from_triple(level.triple)
    else:
        target = llvm.Target.from_default_triple()
    cpu = level.cpu or llvm.get_host_cpu_name()
    features = level.features or ("" if level.cpu else llvm.get_host_cpu_features().flatten())
    return target.create_target_machine(cpu=cpu, features=features, opt=3, jit=not level.triple)


def _load(code: bytes) -> int:
    _prepare_llvm()
    engine = llvm.create_mcjit_compiler(
        llvm.parse_assembly(""), llvm.Target.from_default_triple().create_target_machine(jit=True)
    )
    engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return int(engine.get_function_address(SYMBOL))


def compile_object(module: str, function: str, **params: Any) -> bytes:
    """Compile a kernel for the current level and return its object file."""
    name = kernel_name(module, function, **params)
    for callback in list(_on_compile):
        callback(name)
    start = time.perf_counter()
    code = bytes(_machine(levels.current()).emit_object(llvm.parse_assembly(
        compile_ir(module, function, **params))))  # fmt: skip
    log.info("compiled %s in %.2f s (%d bytes)", name, time.perf_counter() - start, len(code))
    return code


def compile_ir(module: str, function: str, **params: Any) -> str:
    """Compile a kernel to optimised LLVM IR for the current level."""
    from jitllm.kernels import compiler

    source = getattr(importlib.import_module(f"jitllm.kernels.cpu.{module}"), function)
    if params:
        source = source(**params)
    return compiler.compile_ir(source, _signature(module, function), SYMBOL)
