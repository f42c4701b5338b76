"""A stand-in for Apple's Objective-C runtime and Metal, so that the Metal backend runs on Linux.

`metal/objc.c` has objects whose references are counted, `metal/device.c`, `metal/kernels.c` and
`metal/commands.c` have Metal's. What Apple's would misbehave on ends the process: a use after a
release, an object without a pool, commands out of order. Kernels are compiled by g++, with
`metal/metal_stdlib` as Metal's library, and `metal/threads.c` runs the threads of a workgroup in
turns, so that barriers work; kernels that touch memory which was not declared, or whose threads
part at a barrier, are errors. `JITLLM_METAL_RUNTIME` tells the backend to open it.
"""

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).parent / "metal"
VARIABLE = "JITLLM_METAL_RUNTIME"
_KEPT = Path(__file__).parents[1] / ".pytest_cache" / "d" / "metal_standin"
_FLAGS = (
    "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-pthread",
    "-fvisibility=hidden",
)  # fmt: skip


def use() -> None:
    """Let the backend find the stand-in, unless there is Metal, or another stand-in was named."""
    compilers = shutil.which("gcc"), shutil.which("g++")
    if sys.platform == "linux" and all(compilers) and VARIABLE not in os.environ:
        os.environ[VARIABLE] = str(_library(*map(str, compilers)))


def _library(gcc: str, gpp: str) -> Path:
    """Return the library, which is made once; the kernels' are kept beside it."""
    sources = sorted(path for path in SOURCES.rglob("*") if path.is_file())
    code = b"".join(path.read_bytes() for path in sources if path.suffix != ".pyc")
    folder = _KEPT / hashlib.sha256(code).hexdigest()[:16]
    library = folder / "standin.so"
    if library.exists():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"standin.{os.getpid()}"
    script = [sys.executable, "-SE", str(SOURCES / "compile_kernel.py"), gpp]
    command = [
        gcc, *_FLAGS, f'-DFOLDER="{folder}"', f'-DCOMPILER="{shlex.join(script)}"',
        *(str(path) for path in sources if path.suffix == ".c"), "-o", str(made), "-ldl",
    ]  # fmt: skip
    subprocess.run(command, check=True)
    made.rename(library)
    return library


def is_used() -> bool:
    """Whether the backend opens a stand-in."""
    return bool(os.environ.get(VARIABLE))


def live_objects() -> int:
    """Return how many objects of the stand-in exist; 0 where Metal itself is used."""
    return int(ctypes.CDLL(os.environ[VARIABLE]).standin_live()) if is_used() else 0
