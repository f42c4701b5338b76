"""The machine level: which instructions kernels may use.

A process uses one level. `JITLLM_SIMD` overrides the choice. A level that this machine cannot run
serves for compiling ahead only (`jit.compile_object`): loading a kernel is refused (`require`).
"""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import llvmlite.binding as llvm


@dataclass(frozen=True)
class Level:
    """Instruction set of compiled kernels.

    Attributes
    ----------
    name : str
        Value of `JITLLM_SIMD`.
    triple : str
        LLVM target triple; empty for this machine's own.
    cpu, features : str
        LLVM processor name and feature string; empty `cpu` means this machine's own.
    requires : tuple of str
        LLVM feature names the machine must have.
    signed_dot : bool
        Whether the int8 dot product wants signed codes; else they are unsigned.
    half : bool
        Whether float16 conversion is an instruction.
    tile : (int, int)
        Blocks of 16 weight rows and rows of x that a matrix product keeps in registers.
    """

    name: str
    triple: str
    cpu: str
    features: str
    requires: tuple[str, ...]
    signed_dot: bool
    half: bool
    tile: tuple[int, int]


_AVX2 = "+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+movbe,+popcnt"
_X86, _ARM = ("x86_64", "AMD64"), ("aarch64", "arm64")
LEVELS = (
    Level("avx512vnni", "", "", "", ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni"),
          False, True, (2, 6)),
    Level("avxvnni", "", "x86-64-v3", _AVX2 + ",+avxvnni", ("avx2", "fma", "f16c", "avxvnni"),
          False, True, (1, 4)),
    Level("avx2", "", "x86-64-v3", _AVX2, ("avx2", "fma", "f16c"), True, True,
          (1, 4)),
    Level("neon", "aarch64-unknown-linux-gnu", "generic", "+neon,+dotprod", ("neon", "dotprod"),
          True, True, (1, 4)),
    Level("plain", "", "generic", "", (), False, False, (1, 2)),
)  # fmt: skip


@cache
def _host_features() -> Mapping[str, bool]:
    try:
        return dict(llvm.get_host_cpu_features())
    except RuntimeError:
        return {}  # LLVM cannot ask this processor: it gets the plain level


def _runs_here(level: Level) -> bool:
    if level.name == "plain":
        return True
    if is_foreign(level):
        return False
    return all(_host_features().get(name, False) for name in level.requires)


def processor(level: Level) -> str:
    """Return the kind of processor of a level: "x86", "arm", or "" for any other."""
    if level.name == "plain":
        return {**dict.fromkeys(_X86, "x86"), **dict.fromkeys(_ARM, "arm")}.get(
            platform.machine(), ""
        )
    return "arm" if level.name == "neon" else "x86"


def is_foreign(level: Level) -> bool:
    """Return whether `level` belongs to another kind of processor than this machine's."""
    return processor(level) != processor(by_name("plain"))


def by_name(name: str) -> Level:
    """Return the level called `name`; `ValueError` lists the names when there is none."""
    for level in LEVELS:
        if level.name == name:
            return level
    raise ValueError(f"JITLLM_SIMD must be one of {[x.name for x in LEVELS]}, got {name!r}")


def available() -> list[Level]:
    """Return the levels this machine can run, fastest first."""
    return [level for level in LEVELS if _runs_here(level)]


@cache
def current() -> Level:
    """Return this process's level: `JITLLM_SIMD` if set, else the fastest that runs here."""
    wanted = os.environ.get("JITLLM_SIMD", "")
    return by_name(wanted) if wanted else available()[0]


def require() -> None:
    """Raise `ValueError` if this machine cannot run the current level."""
    level = current()
    if not _runs_here(level):
        raise ValueError(
            f"JITLLM_SIMD={level.name!r} needs {level.requires}, which this machine has not; "
            f"it can run {[x.name for x in available()]}"
        )
