"""GPU kernels as LLVM IR that is of no machine yet: Numba types them and generates their code.

The IR calls functions `jit_...` for all that machines do differently. `jitllm.kernels.gpu.ptx` and
`jitllm.kernels.gpu.simulator` define them, and optimise the whole.
"""

import importlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from jitllm.kernels.gpu.text import access_sites, clean, number_sites, request_unrolling

ENTRY = "jit_kernel"  # takes addresses and whole numbers as int64, the rest as float
MAX_THREADS, MAX_SHARED = 1024, 48 * 1024  # of a workgroup, on every GPU
_KINDS = {"A": "int64", "U": "int64", "F": "float32"}
_FOLDER = Path(__file__).parents[1] / "cuda"


@dataclass(frozen=True)
class Neutral:
    """A kernel's IR.

    Attributes
    ----------
    text : str
        A module with the function `ENTRY`.
    threads : int
        Threads of a workgroup.
    parameters : str
        A letter for each parameter: A, U, F (see `jitllm.kernels.gpu.vocabulary`).
    shared : int
        Bytes that a workgroup shares.
    sites : tuple of str
        The function that each call which synchronizes stands in.
    accesses : tuple of str
        The places in the source that load and store; see `text.access_sites`.
    float64 : bool
        Whether the kernel may compute in float64.
    groups : int
        Workgroups of a multiprocessor that registers should be enough for, 0 to let NVIDIA's
        compiler choose.
    """

    text: str
    threads: int
    parameters: str
    shared: int
    sites: tuple[str, ...]
    accesses: tuple[str, ...]
    float64: bool
    groups: int = 0


@lru_cache(maxsize=1)  # who makes both PTX and an object file of it does so in turn
def generate(kernel: str, constants: tuple[int, ...]) -> Neutral:
    """Compile a kernel as far as all machines have in common.

    Parameters
    ----------
    kernel : str
        Name of a file in `kernels/cuda`, then, where there is one for each tensor type, a dot and
        the type in lower case.
    constants : tuple of int
        What its factory takes.

    Raises
    ------
    ValueError
        If there is no such kernel, or it is not written as `jitllm.kernels.gpu.vocabulary` says.
    """
    from jitllm.kernels import compiler

    compiler.configure()
    module, factory = _find(kernel)
    _, _, type_name = kernel.partition(".")
    options = {"fmt": type_name.upper()} if type_name else {}
    return of_function(
        factory(*constants, **options), module.THREADS, getattr(module, "FLOAT64", False)
    )


def of_function(function: Any, threads: int, float64: bool = False) -> Neutral:
    """Compile a function with annotated parameters; see `generate`."""
    from numba.core import types

    from jitllm.kernels import compiler

    if threads % 32 or not 0 < threads <= MAX_THREADS:
        raise ValueError(f"THREADS must be a multiple of 32 up to {MAX_THREADS}, got {threads}")
    letters = parameters_of(function)
    kinds = tuple(getattr(types, _KINDS[letter]) for letter in letters)
    text = compiler.linked_ir(function, types.void, kinds, ENTRY)
    text, sites = number_sites(request_unrolling(clean(text)))
    shared = sum(map(int, re.findall(r"^@jit_shared\S* = .*\[(\d+) x i8\]", text, re.M)))
    if shared > MAX_SHARED:
        raise ValueError(f"a workgroup has at most {MAX_SHARED} bytes shared, got {shared}")
    groups = getattr(function, "groups", 0)
    return Neutral(text, threads, letters, shared, sites, access_sites(text), float64, groups)


def parameters_of(function: Any) -> str:
    """Return the letters of a kernel's parameters; `ValueError` if they are not annotated so."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    kinds = [getattr(function.__annotations__.get(name), "__name__", "?") for name in names]
    letters = "".join(kinds)
    if not re.fullmatch("A*[UF]*", letters):
        raise ValueError(
            f"{function.__qualname__}: parameters must be annotated with A, then U and F "
            f"(jitllm.kernels.gpu.vocabulary), got {dict(zip(names, kinds, strict=True))}"
        )
    return letters


def _find(kernel: str) -> tuple[Any, Any]:
    name = kernel.partition(".")[0]
    path = f"jitllm.kernels.cuda.{name}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:
            raise
        names = sorted(file.stem for file in _FOLDER.glob("[!_]*.py"))
        raise ValueError(f"kernels/cuda has no file {name}.py; it has {names}") from None
    return module, getattr(module, name)


def parse(text: str) -> Any:
    """Return the module of a text, in which no call that synchronizes may be moved."""
    module = llvm.parse_assembly(text)
    for function in module.functions:
        if not function.name.startswith("llvm."):
            function.add_function_attribute("convergent")
    return module
