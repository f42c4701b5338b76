"""Compile kernels with Numba, keep their machine code on disk, load it without Numba.

A kernel is a module-level function of `jitllm.kernels.cpu.<module>`, or what a factory there
returns for some static parameters. It has the C signature

    void kernel(intp args, intp thread, intp n_threads, intp counter)

where `args` points to int64 words (see `abi.Op`) and `counter` to an int64 that starts at zero for
every run of the op and hands out work. Functions with another signature say so in their module's
`SIGNATURES`. Only kernels that are asked for are compiled. The object files live in a folder named
by a hash of everything that decides their content, so a warm start never imports Numba: that
import alone costs more than loading all kernels of a model (0.1 ms each, in one engine).

Code of a level that this machine lacks can be compiled ahead, but not loaded: set `JITLLM_SIMD` and
call `compile_object`.
"""

import ctypes
import ctypes.util
import importlib
import logging
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import llvmlite.binding as llvm

from jitllm.kernels import code_files
from jitllm.kernels import level as levels
from jitllm.kernels.folders import cache_root

log = logging.getLogger("jitllm.kernels")

DEFAULT_SIGNATURE = ("void", ("intp", "intp", "intp", "intp"))
SYMBOL_PREFIX = "jitllm:"  # of a kernel's entry in its object file, before its name
# What compiled code may call: all else would end the process when it is loaded.
RUNTIME_SYMBOLS = ("fmaf", "memcpy", "memmove", "memset")
_C_TYPES = {"void": None, "intp": ctypes.c_ssize_t, "float32": ctypes.c_float}

_lock = threading.RLock()
_on_compile: list[Callable[[str], None]] = []


def on_compile(callback: Callable[[str], None]) -> Callable[[], None]:
    """Call `callback(kernel name)` before each compilation; returns a function that stops it."""
    _on_compile.append(callback)
    return lambda: _on_compile.remove(callback)


def announce(name: str) -> None:
    """Tell the callbacks that a kernel will be compiled."""
    for callback in list(_on_compile):
        callback(name)


# --- names and files -------------------------------------------------------------------------


@cache
def cache_dir() -> Path:
    """Return the folder of this machine's, level's and source version's object files."""
    return cache_root() / "kernels" / f"{levels.current().name}-{_source_hash()}"


@cache
def _source_hash() -> str:
    folder = Path(__file__).parent
    paths = [path for part in (".", "cpu", "formats") for path in folder.glob(f"{part}/*.py")]
    return code_files.source_hash(paths, *processor())


def kernel_name(module: str, function: str, **params: Any) -> str:
    """Return the unique name of a kernel: its file, its function and its static parameters."""
    tail = "".join(f"-{key}={value}" for key, value in sorted(params.items()))
    return f"{module}.{function}{tail}"


def is_cached(module: str, function: str, **params: Any) -> bool:
    """Return whether the kernel's object file exists, so that using it compiles nothing."""
    return code_files.read(_path(kernel_name(module, function, **params))) is not None


def _path(name: str) -> Path:
    return cache_dir() / f"{name}.o"


# --- loading ---------------------------------------------------------------------------------


def address(module: str, function: str, **params: Any) -> int:
    """Return the kernel's entry address, compiling it if no object file holds it yet.

    Parameters
    ----------
    module, function : str
        File in `kernels/cpu` and the function (or factory, when `params` are given) in it.
    **params
        Static parameters passed to the factory; str, int or bool.

    Raises
    ------
    ValueError
        If there is no such kernel, or this machine cannot run the level that was asked for.
    """
    with _lock:
        return _address(module, function, tuple(sorted(params.items())))


@cache
def _address(module: str, function: str, items: tuple[tuple[str, Any], ...]) -> int:
    levels.require()
    params = dict(items)
    name = kernel_name(module, function, **params)
    code = code_files.read(_path(name))
    if code is None:
        code = compile_object(module, function, **params)
        code_files.store(_path(name), code)
    return _load(name, code)


def function(module: str, name: str, **params: Any) -> Any:
    """Return the kernel as a ctypes function; calling it releases the interpreter lock."""
    result, arguments = _signature(module, name)
    kinds: list[Any] = [_C_TYPES[kind] for kind in (result, *arguments)]
    prototype = ctypes.CFUNCTYPE(*kinds)
    return prototype(address(module, name, **params))


@cache
def _signature(module: str, function: str) -> tuple[str, tuple[str, ...]]:
    from jitllm.kernels import signatures

    return signatures.SIGNATURES.get(f"{module}.{function}", DEFAULT_SIGNATURE)


def _symbol(name: str) -> str:
    return f"{SYMBOL_PREFIX}{name}"


def load(code: bytes, *symbols: str) -> tuple[int, ...]:
    """Load an object file for as long as the process lives; returns where functions of it are."""
    with _lock:
        engine = _engine()
        engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
        engine.finalize_object()
        return tuple(int(engine.get_function_address(symbol)) for symbol in symbols)


def _load(name: str, code: bytes) -> int:
    (found,) = load(code, _symbol(name))
    if not found:
        raise RuntimeError(
            f"the object file of kernel {name} lacks its entry: delete {_path(name)}"
        )
    return found


@cache
def _engine() -> Any:
    """Return the engine that owns all loaded code, as long as the process lives."""
    _prepare_llvm()
    _define_symbols()
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)


def _define_symbols() -> None:
    """Tell the loader where RUNTIME_SYMBOLS are, as not every system's linker finds them."""
    if sys.platform == "win32":
        runtime: Any = ctypes.CDLL("ucrtbase")
        stack_check = ctypes.WinDLL("ntdll").__getattr__("__chkstk")  # frames above one page
        llvm.add_symbol("__chkstk", ctypes.cast(stack_check, ctypes.c_void_p).value)
    else:
        runtime = ctypes.CDLL(ctypes.util.find_library("m") or None)
    places = {"fmaf": runtime.fmaf, "memset": ctypes.memset}
    places |= dict.fromkeys(("memcpy", "memmove"), ctypes.memmove)
    for name in RUNTIME_SYMBOLS:
        llvm.add_symbol(name, ctypes.cast(places[name], ctypes.c_void_p).value)


# --- compiling -------------------------------------------------------------------------------


@cache
def _prepare_llvm() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def processor() -> tuple[str, str]:
    """Return LLVM's processor name and features of the current level."""
    level = levels.current()
    if level.cpu:
        return level.cpu, level.features
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def machine() -> Any:
    """Return LLVM's target machine of the current level, which need not be one that runs here."""
    _prepare_llvm()
    level, (cpu, features) = levels.current(), processor()
    if levels.is_foreign(level):
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        target = llvm.Target.from_triple(level.triple)
        return target.create_target_machine(cpu=cpu, features=features, opt=3)
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=cpu, features=features, opt=3, jit=True
    )


def compile_object(module: str, function: str, **params: Any) -> bytes:
    """Compile a kernel for the current level and return its object file."""
    name = kernel_name(module, function, **params)
    announce(name)
    start = time.perf_counter()
    unit, target = llvm.parse_assembly(compile_ir(module, function, **params)), machine()
    if levels.is_foreign(levels.current()):  # Numba generates for this machine
        unit.triple, unit.data_layout = target.triple, str(target.target_data)
    code = bytes(target.emit_object(unit))
    log.info("compiled %s in %.2f s (%d bytes)", name, time.perf_counter() - start, len(code))
    return code


def compile_ir(module: str, function: str, **params: Any) -> str:
    """Compile a kernel to optimised LLVM IR for the current level.

    Raises
    ------
    ValueError
        If there is no such kernel.
    """
    from jitllm.kernels import compiler

    source = _source(module, function)
    if params:
        source = source(**params)
    name = kernel_name(module, function, **params)
    return compiler.compile_ir(source, _signature(module, function), _symbol(name))


def _source(module: str, function: str) -> Callable[..., Any]:
    path = f"jitllm.kernels.cpu.{module}"
    try:
        found = getattr(importlib.import_module(path), function, None)
    except ModuleNotFoundError as error:
        if error.name != path:
            raise
        names = sorted(file.stem for file in (Path(__file__).parent / "cpu").glob("[!_]*.py"))
        raise ValueError(f"kernels/cpu has no file {module}.py; it has {names}") from None
    if not callable(found):
        raise ValueError(f"kernels/cpu/{module}.py has no kernel {function!r}")
    return cast(Callable[..., Any], found)
