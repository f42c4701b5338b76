"""GPU kernels as LLVM IR that is of no machine yet: Numba types them and generates their code.

The IR calls functions `jit_...` for all that machines do differently. `jitllm.kernels.gpu_ptx` and
`jitllm.kernels.gpu_simulator` define them, and optimise the whole.
"""

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

ENTRY = "jit_kernel"  # takes addresses and whole numbers as int64, the rest as float
MAX_THREADS = 1024
_KINDS = {"A": "int64", "U": "int64", "F": "float32"}
_FOLDER = Path(__file__).parent / "cuda"


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
        A letter for each parameter: A, U, F (see `jitllm.kernels.gpu`).
    shared : int
        Bytes that a workgroup shares.
    sites : tuple of str
        The function that each call which synchronizes stands in.
    float64 : bool
        Whether the kernel may compute in float64.
    """

    text: str
    threads: int
    parameters: str
    shared: int
    sites: tuple[str, ...]
    float64: bool


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
        If there is no such kernel, or it is not written as `jitllm.kernels.gpu` says.
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
    text, sites = _number_sites(_request_unrolling(_clean(text)))
    shared = sum(map(int, re.findall(r"^@jit_shared\S* = .*\[(\d+) x i8\]", text, re.M)))
    return Neutral(text, threads, letters, shared, sites, float64)


def parameters_of(function: Any) -> str:
    """Return the letters of a kernel's parameters; `ValueError` if they are not annotated so."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    kinds = [getattr(function.__annotations__.get(name), "__name__", "?") for name in names]
    letters = "".join(kinds)
    if not re.fullmatch("A*[UF]*", letters):
        raise ValueError(
            f"{function.__qualname__}: parameters must be annotated with A, then U and F "
            f"(jitllm.kernels.gpu), got {dict(zip(names, kinds, strict=True))}"
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


# --- changes of the text -----------------------------------------------------------------------


def _clean(text: str) -> str:
    """Drop what is the interpreter's or this machine's."""
    text = re.sub(r"^@_ZN08NumbaEnv\S+ = common .*\n", "", text, flags=re.M)
    return re.sub(r"^target .*\n", "", text, flags=re.M)


def _number_sites(text: str) -> tuple[str, tuple[str, ...]]:
    """Give every call that synchronizes a number."""
    sites, lines, owner = list[str](), list[str](), ""
    for line in text.split("\n"):
        if line.startswith("define "):
            owner = _readable(line)
        elif re.search(r" call .*@jit_\w+\(i32 -1\b", line):
            line = line.replace("(i32 -1", f"(i32 {len(sites)}", 1)
            sites.append(owner)
        lines.append(line)
    return "\n".join(lines), tuple(sites)


def _readable(define: str) -> str:
    """Return the name of the Python function whose mangled name a line has."""
    match = re.search(r"@_ZN((?:\d+\w+?)+)B\d+v\d+B", define)
    if not match:
        return "kernel"
    parts, rest = list[str](), match[1]
    while digits := re.match(r"\d+", rest):
        start = digits.end()
        parts.append(rest[start : start + int(digits[0])])
        rest = rest[start + int(digits[0]) :]
    return re.sub(r"_([0-9a-f]{2})", lambda m: chr(int(m[1], 16)), parts[-1]) if parts else "kernel"


def _request_unrolling(text: str) -> str:
    """Mark the loops over `unroll(n)` as to be unrolled, in place of the calls in their heads."""
    from jitllm.kernels.gpu_loops import UNROLL_MARK

    mark = f"  call void @{UNROLL_MARK}()"
    out = list[str]()
    for function in re.split(r"(?<=^}\n)", text, flags=re.M):
        lines = function.split("\n")
        heads = {block for block, line in _blocks(lines) if line.strip() == mark.strip()}
        for i, (block, line) in enumerate(_blocks(lines)):
            targets = set(re.findall(r"label %(\w+)", line)) & heads
            if any(_offset(block) >= _offset(head) for head in targets):
                lines[i] = f"{line}, !llvm.loop !9000"
        out.append("\n".join(line for line in lines if line.strip() != mark.strip()))
    text = re.sub(rf"^declare void @{UNROLL_MARK}\(\).*\n", "", "".join(out), flags=re.M)
    if "!9000" in text:
        text += '\n!9000 = distinct !{!9000, !9001}\n!9001 = !{!"llvm.loop.unroll.full"}\n'
    return text


def _blocks(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Yield each line with the name of the block that it stands in."""
    block = ""
    for line in lines:
        if label := re.match(r"([\w.]+):", line):
            block = label[1]
        yield block, line


def _offset(block: str) -> int:
    """Return where in the bytecode a block begins: a jump back goes to a smaller number."""
    number = re.match(r"B(\d+)", block)
    return int(number[1]) if number else -1


def parse(text: str) -> Any:
    """Return the module of a text, in which no call that synchronizes may be moved."""
    module = llvm.parse_assembly(text)
    for function in module.functions:
        if not function.name.startswith("llvm."):
            function.add_function_attribute("convergent")
    return module
