"""What NVIDIA's assembler makes of GPU kernels: registers, and memory that they should not need."""

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from jitllm.kernels.gpu import compiler as gpu_compiler

CAPABILITIES = ((7, 5), (8, 0), (9, 0), (12, 0))


@dataclass(frozen=True)
class Usage:
    """What a thread (`registers`, and bytes of `spills` and of its `stack`) and a group need."""

    registers: int
    spills: int
    stack: int
    shared: int


def assembler() -> str | None:
    """Return the path of ptxas: JITLLM_PTXAS, one in PATH, or that of an installed wheel."""
    if chosen := os.environ.get("JITLLM_PTXAS"):
        return chosen
    if found := shutil.which("ptxas"):
        return found
    package = importlib.util.find_spec("nvidia")
    for folder in (package.submodule_search_locations or []) if package else []:
        for path in Path(folder).glob("*/bin/ptxas"):
            return str(path)
    return None


def ptxas(name: str, constants: tuple[int, ...], cc: tuple[int, int], fmt: str = "") -> Usage:
    """Assemble a kernel for a compute capability; `RuntimeError` if there is no assembler."""
    kernel = f"{name}.{fmt.lower()}" if fmt else name
    return assemble(gpu_compiler.ptx(kernel, constants, cc).data, cc)


def assemble(ptx: bytes, cc: tuple[int, int]) -> Usage:
    """Assemble PTX; `RuntimeError` with the assembler's message if it is wrong."""
    program = assembler()
    if program is None:
        raise RuntimeError("there is no ptxas: set JITLLM_PTXAS or install nvidia-cuda-nvcc")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_bytes(ptx)
        command = [program, "-v", f"-arch=sm_{cc[0]}{cc[1]}", str(source), "-o", f"{folder}/out"]
        run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stderr or run.stdout)

    def number(pattern: str) -> int:
        return sum(map(int, re.findall(pattern, run.stderr)))

    return Usage(
        number(r"Used (\d+) registers"), number(r"(\d+) bytes spill"),
        number(r"(\d+) bytes stack frame"), number(r"(\d+) bytes smem"),
    )  # fmt: skip
