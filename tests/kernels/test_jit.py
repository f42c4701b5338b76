"""The cache of compiled kernels: two processes, damage, unwritable and old folders."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jitllm.kernels import code_files, jit
from jitllm.kernels import level as levels

KERNEL = ("elementwise", "scale_rows")
_ENGINES: list[Any] = []  # code that other tests loaded must stay


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, with nothing loaded from elsewhere."""
    monkeypatch.setenv("JITLLM_CACHE", str(tmp_path))
    _forget()
    yield tmp_path
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    _ENGINES.append(jit._engine())
    jit.cache_dir.cache_clear()
    jit._address.cache_clear()
    jit._engine.cache_clear()


@pytest.fixture
def compiled() -> Iterator[list[str]]:
    """Names of the kernels compiled while the test runs."""
    names: list[str] = []
    stop = jit.on_compile(names.append)
    yield names
    stop()


def _restart(*kernel: Any) -> int:
    """Ask for a kernel as a new process would."""
    _forget()
    return jit.address(*kernel)


def test_the_home_folder_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("JITLLM_CACHE", "~/kept")
    jit.cache_dir.cache_clear()
    assert jit.cache_dir().parent == tmp_path / "kept" / "kernels"
    jit.cache_dir.cache_clear()


def test_compiles_once_and_loads_after(folder: Path, compiled: list[str]) -> None:
    assert not jit.is_cached(*KERNEL)
    first = jit.address(*KERNEL)
    assert first and first == jit.address(*KERNEL)
    assert jit.is_cached(*KERNEL)
    assert _restart(*KERNEL)
    assert compiled == ["elementwise.scale_rows"]
    assert [path.name for path in jit.cache_dir().iterdir()] == ["elementwise.scale_rows.o"]
    assert jit.cache_dir().parent == folder / "kernels"


def test_parameters_make_kernels_of_their_own(folder: Path, compiled: list[str]) -> None:
    addresses = [jit.address("activation", "activation", act=act) for act in ("relu", "silu")]
    assert len(set(addresses)) == 2
    assert compiled == ["activation.activation-act=relu", "activation.activation-act=silu"]


@pytest.mark.parametrize("damage", ["empty", "short", "flipped", "longer", "text"])
def test_a_damaged_file_is_made_again(
    folder: Path, compiled: list[str], caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    jit.address(*KERNEL)
    path = jit.cache_dir() / "elementwise.scale_rows.o"
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes({
        "empty": b"", "short": whole[:middle], "longer": whole + b"x", "text": b"hello",
        "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
    }[damage])  # fmt: skip
    assert not jit.is_cached(*KERNEL)
    assert _restart(*KERNEL)
    assert len(compiled) == 2 and "damaged" in caplog.text
    assert jit.is_cached(*KERNEL)


def test_a_folder_that_cannot_be_written(
    folder: Path, compiled: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "kernels").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, "jitllm.kernels"):
        assert jit.address(*KERNEL)
        assert jit.address(*KERNEL)
    assert compiled == ["elementwise.scale_rows"]
    assert "elementwise.scale_rows.o is not kept" in caplog.text


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="nothing is read-only")
def test_a_read_only_folder(folder: Path, compiled: list[str]) -> None:
    folder.chmod(0o500)
    assert jit.address(*KERNEL)
    assert compiled == ["elementwise.scale_rows"]
    folder.chmod(0o700)


def test_nothing_partial_is_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    assert jit.address(*KERNEL)
    assert list(jit.cache_dir().iterdir()) == []


def test_old_versions_are_deleted(folder: Path) -> None:
    kernels, level = folder / "kernels", levels.current().name
    for age in range(7):
        old = kernels / f"{level}-{age:016x}"
        old.mkdir(parents=True)
        (old / "a.o").write_bytes(b"x")
        os.utime(old, (1e9 - age, 1e9 - age))
    others = [kernels / f"other-{0:016x}", kernels / f"{level}-mine", folder / "models"]
    for other in others:
        other.mkdir()
    jit.address(*KERNEL)
    kept = {path.name for path in kernels.glob(f"{level}-{'[0-9a-f]' * 16}")}
    assert kept == {jit.cache_dir().name, *(f"{level}-{age:016x}" for age in range(3))}
    assert len(kept) == code_files.KEPT_VERSIONS
    assert all(other.is_dir() for other in others)


def test_threads_compile_a_kernel_once(folder: Path, compiled: list[str]) -> None:
    found: list[int] = []
    callers = [threading.Thread(target=lambda: found.append(jit.address(*KERNEL))) for _ in "1234"]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 4 and len(set(found)) == 1
    assert compiled == ["elementwise.scale_rows"]


def _python(code: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code], env={**os.environ, **variables}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


SUM = """
import numpy as np
from jitllm.kernels import host, jit
x = np.ones((3, 40), np.float32)
assert (host.add(x, x) == 2).all()
import sys
print("numba" in sys.modules)
"""


def test_two_processes_at_once(folder: Path) -> None:
    processes = [_python(SUM, JITLLM_CACHE=str(folder)) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
    assert [path.name for path in folder.glob("kernels/*/*")] == ["elementwise.add.o"]


def test_a_warm_start_imports_no_compiler(folder: Path) -> None:
    outputs = [_python(SUM, JITLLM_CACHE=str(folder)).communicate(timeout=100) for _ in range(2)]
    assert [out.strip() for out, _ in outputs] == ["True", "False"], outputs


def test_unknown_kernels() -> None:
    with pytest.raises(ValueError, match=r"no file nothing\.py; it has .*'matmul'"):
        jit.address("nothing", "matmul")
    with pytest.raises(ValueError, match=r"matmul\.py has no kernel 'magic'"):
        jit.address("matmul", "magic", fmt="Q4_K")
    with pytest.raises(TypeError, match="fmr"):
        jit.address("matmul", "matmul", fmr="Q4_K")
    with pytest.raises(ValueError, match="Q9_X"):
        jit.address("matmul", "matmul", fmt="Q9_X")


def test_names() -> None:
    assert jit.kernel_name("norm", "rms_norm") == "norm.rms_norm"
    assert jit.kernel_name("moe", "top", norm=True, act="b") == "moe.top-act=b-norm=True"


def test_unknown_level(folder: Path) -> None:
    process = _python(SUM, JITLLM_SIMD="mmx", JITLLM_CACHE=str(folder))
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "JITLLM_SIMD must be one of ['avx512vnni', 'avxvnni', 'avx2', 'neon'" in errors


def test_a_level_of_another_machine_is_not_loaded(folder: Path) -> None:
    here = {level.name for level in levels.available()}
    foreign = next(level.name for level in levels.LEVELS if level.name not in here)
    process = _python(SUM, JITLLM_SIMD=foreign, JITLLM_CACHE=str(folder))
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    assert f"JITLLM_SIMD='{foreign}' needs" in errors and "it can run" in errors
    assert not (folder / "kernels").exists()
