"""Machine levels: the same bits at each, code for ARM, and no calls out of compiled code."""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import arm_image
import elf
import numpy as np
import pytest

from jitllm.kernels import jit
from jitllm.kernels import level as levels

TESTS = Path(__file__).parents[1]
HERE = [level.name for level in levels.available()]
SDOT, SDOT_MASK = 0x4E809400, 0xFFE0FC00  # sdot v.4s, v.16b, v.16b
ARM_TOOLS = ("qemu-aarch64", "aarch64-linux-gnu-gcc", "aarch64-linux-gnu-objcopy")


def _run(level: str, *command: str) -> str:
    environment = {**os.environ, "JITLLM_SIMD": level, "PYTHONPATH": str(TESTS)}
    done = subprocess.run(
        [sys.executable, "-P", *command], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@cache
def _digests(level: str, size: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(_run(level, str(TESTS / "level_digest.py"), size))
    return found


@pytest.mark.parametrize("level", HERE[1:])
def test_level_gives_the_bits_of_the_fastest(level: str) -> None:
    assert _digests(level, "small") == _digests(HERE[0], "small")


@pytest.mark.slow
@pytest.mark.parametrize("level", HERE[1:])
def test_level_gives_the_bits_of_the_fastest_everywhere(level: str) -> None:
    assert _digests(level, "full") == _digests(HERE[0], "full")


@pytest.mark.skipif(sys.platform != "linux", reason="object files are not ELF here")
def test_compiled_code_calls_only_what_is_provided() -> None:
    """Loading an object with any other undefined symbol would end the process."""
    objects: list[Path] = []
    for level in HERE:
        _run(level, str(TESTS / "level_digest.py"), "small")
        script = "from jitllm.kernels import jit; print(jit.cache_dir())"
        objects += Path(_run(level, "-c", script).strip()).glob("*.o")
    assert len(objects) > 10 * len(HERE)
    for path in objects:
        assert elf.undefined(path.read_bytes()) <= set(jit.RUNTIME_SYMBOLS), path


def test_level_is_chosen_by_the_environment() -> None:
    script = "from jitllm.kernels import level; print(level.current().name)"
    assert [_run(level, "-c", script).strip() for level in HERE] == HERE
    assert _run("", "-c", script).strip() == HERE[0]


def test_names_and_tiles() -> None:
    assert [level.name for level in levels.LEVELS][-1] == "plain"
    for level in levels.LEVELS:
        assert levels.by_name(level.name) is level
        assert min(level.tile) >= 1
    with pytest.raises(ValueError, match="JITLLM_SIMD must be one of"):
        levels.by_name("sse")


_ARM_OBJECTS = """
import sys
from jitllm.kernels import jit
KERNELS = {
    "matmul": ("matmul", "matmul", {"fmt": "Q4_K"}),
    "quantize": ("quantize", "quantize", {"tile_rows": 4}),
    "executor": ("executor", "worker_loop", {}),
    "byte": ("matmul", "matmul", {"fmt": "Q8_0"}),
    "norm": ("norm", "rms_norm", {}),
    "attention": ("attention", "attention", {"kv": "f16"}),
}
for name in sys.argv[2:]:
    module, function, params = KERNELS[name]
    with open(f"{sys.argv[1]}/{name}.o", "wb") as file:
        file.write(jit.compile_object(module, function, **params))
"""


def _arm_objects(folder: Path, *names: str) -> dict[str, bytes]:
    _run("neon", "-c", _ARM_OBJECTS, str(folder), *names)
    return {name: (folder / f"{name}.o").read_bytes() for name in names}


def _check_arm(objects: dict[str, bytes]) -> None:
    for name, code in objects.items():
        assert elf.machine(code) == elf.ARM
        assert elf.undefined(code) <= {"memcpy", "memset"}, name  # fma is an instruction
        words = np.frombuffer(code[: len(code) // 4 * 4], "<u4")
        n_dots = int((words & SDOT_MASK == SDOT).sum())
        assert (n_dots > 16) == (name in ("matmul", "byte")), (name, n_dots)


def test_kernels_compile_for_arm(tmp_path: Path) -> None:
    _check_arm(_arm_objects(tmp_path, "matmul", "quantize", "executor"))


@pytest.mark.slow
def test_more_kernels_compile_for_arm(tmp_path: Path) -> None:
    _check_arm(_arm_objects(tmp_path, "byte", "norm", "attention"))


def _run_here() -> list[bytes]:
    """Run the image's calls on this machine; returns the results' bytes."""
    raw = np.full(arm_image.SIZE + 64, 0xFF, np.uint8)
    start = -raw.ctypes.data % 64
    memory = raw[start : start + arm_image.SIZE]
    image = arm_image.Image(memory.ctypes.data, memory)
    arm_image.fill(image)
    for name, args, counter in image.calls:
        module, function, params = image.kernels[name]
        jit.function(module, function, **params)(args, 0, 1, counter)
    return [memory[at : at + n].tobytes() for at, n in image.results]


@pytest.mark.slow
def test_arm_code_gives_the_same_bits(tmp_path: Path) -> None:
    missing = [tool for tool in ARM_TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {missing} (Debian: qemu-user, gcc-aarch64-linux-gnu)")
    _run("neon", str(TESTS / "arm_image.py"), str(tmp_path))
    told = json.loads((tmp_path / "kernels.json").read_text())
    names = [f"{jit.SYMBOL_PREFIX}{name} kernel{i}" for i, name in enumerate(told["names"])]
    (tmp_path / "symbols").write_text("\n".join(names) + "\n")  # as C would call them
    objects = [f"kernel{i}.o" for i in range(len(names))]
    for name in objects:
        _tool(tmp_path, ARM_TOOLS[2], "--redefine-syms=symbols", name)
    _tool(tmp_path, ARM_TOOLS[1], "-static", "-O1", "-o", "program", "main.c", *objects)
    _tool(tmp_path, ARM_TOOLS[0], "-cpu", "max", "./program", "image.bin", "out.bin")
    out = (tmp_path / "out.bin").read_bytes()
    results = [out[at : at + n] for at, n in told["results"]]
    expected = _run_here()
    assert [len(x) for x in results] == [len(x) for x in expected]
    for got, want in zip(results, expected, strict=True):
        assert np.isfinite(np.frombuffer(got, np.float32)).all()
        assert got == want


def _tool(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_calls_out_of_compiled_code_are_exact() -> None:
    """At the plain level fma is a C function: ctypes must find it, and it must round once."""
    script = (
        "import ctypes\n"
        "from jitllm.kernels import jit, host\n"
        "import llvmlite.binding as llvm\n"
        "jit._engine()\n"
        "call = ctypes.CFUNCTYPE(*[ctypes.c_float] * 4)(llvm.address_of_symbol('fmaf'))\n"
        "x = 1 + 2.0**-12\n"
        "print(call(x, x, -(1 + 2.0**-11)) == 2.0**-24)\n"
    )
    assert _run("plain", "-c", script).strip() == "True"
