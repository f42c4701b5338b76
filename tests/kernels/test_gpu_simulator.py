"""The simulator of GPU kernels finds what would go wrong on a GPU."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_launch import launch_function

from jitllm.kernels import code_files, cuda, jit
from jitllm.kernels.gpu import compiler as gpu_compiler
from jitllm.kernels.gpu import simulator as gpu_simulator
from jitllm.kernels.gpu import stacks as gpu_stacks
from jitllm.kernels.gpu import vocabulary as gpu
from jitllm.kernels.gpu.vocabulary import A, F, U

ONE = np.float32(1)


def test_threads_that_end_while_others_wait() -> None:
    def kernel(x: A) -> None:
        if gpu.thread() >= 40:
            return
        gpu.store_f32(x, ONE)
        gpu.sync_threads()

    message = (
        r"workgroup \(0, 0, 0\) went apart; 0 to 39: waits for the workgroup at call 0 "
        r"\(in kernel\); 40 to 63: has ended"
    )
    with pytest.raises(gpu_simulator.KernelFault, match=message):
        launch_function(kernel, 64, [np.zeros(1, np.float32)])


def test_a_warp_that_ends_while_others_wait() -> None:
    def kernel(x: A) -> None:
        if gpu.warp() == 1:
            return
        gpu.store_f32(x, ONE)
        gpu.sync_threads()

    with pytest.raises(gpu_simulator.KernelFault, match="32 to 63: has ended"):
        launch_function(kernel, 64, [np.zeros(1, np.float32)])


def test_threads_that_wait_at_different_calls() -> None:
    @gpu.inline
    def wait(x: Any) -> Any:
        gpu.sync_threads()
        return gpu.load_f32(x)

    def kernel(x: A) -> None:
        if gpu.warp() == 0:
            wait(x)
        else:
            gpu.sync_threads()
        gpu.store_f32(x, ONE)

    with pytest.raises(gpu_simulator.KernelFault, match=r"\(in kernel\).*\(in wait\)|"
                       r"\(in wait\).*\(in kernel\)"):  # fmt: skip
        launch_function(kernel, 64, [np.zeros(1, np.float32)])


def test_lanes_that_do_not_shuffle() -> None:
    def kernel(x: A) -> None:
        v = gpu.load_f32(x)
        if gpu.lane() < 16:
            v = gpu.shuffle_xor_f32(v, 1)
        gpu.store_f32(x, v)

    with pytest.raises(gpu_simulator.KernelFault, match="0 to 15: waits for its warp"):
        launch_function(kernel, 32, [np.zeros(1, np.float32)])


def test_the_workgroup_is_named() -> None:
    def kernel(x: A, bad: U) -> None:
        if gpu.group_x() == bad and gpu.group_y() == 1 and gpu.thread() == 0:
            return
        gpu.sync_threads()

    with pytest.raises(gpu_simulator.KernelFault, match=r"workgroup \(2, 1, 0\)"):
        launch_function(kernel, 32, [np.zeros(1, np.float32), 2], (4, 2))


def test_warps_meet_as_often_as_they_like_between_barriers() -> None:
    def kernel(x: A) -> None:
        v = gpu.to_f32(gpu.thread())
        for _ in range(gpu.warp() * 3):
            v += gpu.warp_max(v)
        gpu.sync_threads()
        gpu.store_f32(x + 4 * gpu.thread(), v)

    x = np.zeros(96, np.float32)
    launch_function(kernel, 96, [x])
    expected = np.arange(96, dtype=np.float32)
    for warp in range(3):
        part = expected[32 * warp : 32 * (warp + 1)]
        for _ in range(3 * warp):
            part += part.max()
    assert np.array_equal(x, expected)


@pytest.mark.parametrize("has_barrier", [False, True])
def test_a_missing_barrier(has_barrier: bool) -> None:
    def kernel(x: A, y: A) -> None:
        array, i = gpu.shared(256), gpu.thread()
        gpu.store_shared_f32(array + 4 * i, gpu.load_f32(x + 4 * i))
        if has_barrier:
            gpu.sync_threads()
        gpu.store_f32(y + 4 * i, gpu.load_shared_f32(array + 4 * (63 - i)))

    x, y = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
    if not has_barrier:
        with pytest.raises(AssertionError, match="depend on the order of threads"):
            launch_function(kernel, 64, [x, y], is_watched=False)
        return
    launch_function(kernel, 64, [x, y])
    assert np.array_equal(y, x[::-1])


@pytest.mark.parametrize(
    "at, place", [(-1, "4 bytes before the start"), (32, "0 bytes behind the end")]
)
@pytest.mark.parametrize("is_store", [False, True])
def test_memory_beside_an_array(at: int, place: str, is_store: bool) -> None:
    def kernel(x: A) -> None:
        here = x + 4 * (at if gpu.thread() == 7 else gpu.thread())
        if is_store:
            gpu.store_f32(here, ONE)
        else:
            gpu.store_f32(x, gpu.load_f32(here))

    message = rf"thread 7 of workgroup \(0, 0, 0\) touches 4 bytes where it is {place}"
    with pytest.raises(gpu_simulator.KernelFault, match=message):
        launch_function(kernel, 32, [np.zeros(32, np.float32)], 2)


def test_memory_over_the_end_of_an_array() -> None:
    def kernel(x: A) -> None:
        gpu.store_i64(x + 8, 1)

    with pytest.raises(gpu_simulator.KernelFault, match="8 bytes where it reaches over the end"):
        launch_function(kernel, 32, [np.zeros(3, np.float32)])


@pytest.mark.parametrize("n, place", [(32, "0 bytes behind the end"), (31, "is not aligned")])
def test_memory_beside_a_shared_array(n: int, place: str) -> None:
    def kernel(x: A, y: A) -> None:
        at = gpu.shared(128) + 4 * gpu.thread()
        gpu.store_shared_f32(at, ONE)
        if gpu.thread() == n:
            gpu.store_f32x4(y, gpu.load_shared_f32x4(at))

    with pytest.raises(gpu_simulator.KernelFault, match=place):
        launch_function(kernel, 64, [np.zeros(32, np.float32), np.zeros(4, np.float32)])


def test_streamed_vectors_are_aligned() -> None:
    def kernel(x: A, y: A) -> None:
        gpu.store_i32x4(y, gpu.stream_i32x4(x + 4))

    with pytest.raises(gpu_simulator.KernelFault, match="16 bytes where it is not aligned"):
        launch_function(kernel, 32, [np.zeros(8, np.int32), np.zeros(4, np.int32)])


def test_workgroups_of_the_most_threads_with_deep_stacks() -> None:
    def factory(n: int) -> Any:
        def kernel(x: A, y: A, step: U) -> None:
            values = gpu.registers_f32(n)
            for i in range(n):  # not unrolled: they are on the stack
                values[i * step % n] = gpu.load_f32(x + 4 * i)
            gpu.sync_threads()
            total = ONE - ONE
            for i in range(n):
                total += values[i] * gpu.to_f32(i)
            gpu.store_f32(y + 4 * gpu.thread(), gpu.warp_max(total))

        return kernel

    x, y = np.arange(512, dtype=np.float32), np.zeros(1024, np.float32)
    launch_function(factory(512), 1024, [x, y, 3])
    places = np.arange(512) * 3 % 512
    total = np.float32(0)
    for i in range(512):
        total += np.float32(np.flatnonzero(places == i)[0]) * np.float32(i)
    assert np.array_equal(y, np.full(1024, total))


def test_arguments_are_counted() -> None:
    code = gpu_compiler.host_object("select_rows", ())
    kernel = gpu_simulator.LoadedKernel(code)
    with pytest.raises(ValueError, match=r"takes \d+ bytes of arguments \(A+U+\), got 3"):
        kernel.run(b"abc", (1, 1, 1), np.zeros((0, 2), np.int64))
    assert code.argument_bytes == len(gpu_simulator.packed(code.parameters, [0] * 7))


def test_grids_are_no_larger_than_gpus_take() -> None:
    def kernel(x: A) -> None:
        gpu.store_f32(x + 4 * gpu.group_y(), ONE)

    with pytest.raises(gpu_simulator.KernelFault, match=r"a grid of \(1, 65536, 1\), GPUs take"):
        launch_function(kernel, 32, [np.zeros(65536, np.float32)], (1, 65536))


def test_arguments_of_all_kinds() -> None:
    def kernel(y: A, n: U, f: F, m: U) -> None:
        if gpu.thread() == 0:
            gpu.store_i64(y, n)
            gpu.store_f32(y + 8, f)
            gpu.store_i64(y + 16, m - n)

    y = np.zeros(24, np.uint8)
    launch_function(kernel, 32, [y, 0xFFFFFFFF, -2.5, 1])
    assert y[:8].view(np.int64) == 0xFFFFFFFF and y[16:].view(np.int64) == 1 - 0xFFFFFFFF
    assert y[8:12].view(np.float32) == -2.5


def test_every_kernel_is_launched_by_tests() -> None:
    tests = Path(__file__).parent.parent
    files = [*tests.glob("*/test_cuda_*.py"), *tests.glob("gpu_*.py")]
    text = "".join(path.read_text("utf-8") for path in files)
    names = [path.stem for path in Path(cuda.__file__).parent.glob("[a-z]*.py")]
    assert len(names) > 20 and [name for name in names if f'"{name}"' not in text] == []


# --- code on disk --------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ["ptx", "host_object"])
def test_code_is_kept(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, make: str) -> None:
    monkeypatch.setenv("JITLLM_CACHE", str(tmp_path))
    compiled = list[str]()
    stop = jit.on_compile(compiled.append)
    arguments = ("rope", (True,), (9, 0)) if make == "ptx" else ("rope", (True,))
    first = getattr(gpu_compiler, make)(*arguments)
    assert getattr(gpu_compiler, make)(*arguments) == first
    assert compiled == ["cuda.rope-1"]
    (path,) = tmp_path.glob(f"cuda/*/rope-1-{'?' * 16}.code")
    path.write_bytes(path.read_bytes()[:-1])
    assert getattr(gpu_compiler, make)(*arguments) == first
    assert len(compiled) == 2
    stop()


def test_old_code_is_deleted(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JITLLM_CACHE", str(tmp_path))
    gpu_compiler.ptx("rope", (0,), (8, 0))
    (path,) = tmp_path.glob("cuda/*/rope-0-*.code")
    others = [path.with_name(f"rope-0-{age:016x}.code") for age in range(6)]
    for age, other in enumerate(others):
        other.write_bytes(b"")
        os.utime(other, (1e9 - age, 1e9 - age))
    unlike = path.with_name(f"rope-0-0-{0:016x}.code")
    unlike.write_bytes(b"")
    path.unlink()
    gpu_compiler.ptx("rope", (0,), (8, 0))
    assert set(path.parent.iterdir()) == {path, unlike, *others[: code_files.KEPT_VERSIONS - 1]}


def test_code_depends_on_all_that_its_file_imports() -> None:
    folder = Path(code_files.__file__).parent
    found = code_files.sources_of(folder / "cuda" / "matvec.py")
    names = {path.relative_to(folder).as_posix() for path in found}
    assert {"cuda/matvec.py", "packed.py", "formats/q4_k.py", "gpu/math.py", "simd.py"} <= names
    assert "cuda/norm.py" not in names and "cpu/matmul.py" not in names


def test_a_kernel_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"kernels/cuda has no file nothing\.py; it has \['"):
        gpu_compiler.ptx("nothing.q4_0", (), (9, 0))


# --- changing stacks on ARM64 --------------------------------------------------------------------

ARM_MAIN = r"""
#include <stdint.h>
#include <stdlib.h>
void change(void *save, void *load);
static void *first, *second;
static int turns;
static void body(void) {
    for (double d = 1;; d *= 2) { turns += d > 0; change(&second, &first); }
}
int main(void) {
    uint64_t *stack = aligned_alloc(64, 65536), *frame = stack + (65536 - BYTES) / 8;
    for (int i = 0; i < BYTES / 8; i++) frame[i] = 0;
    frame[START / 8] = (uint64_t)body;
    second = frame;
    volatile double x = 3.25;
    for (int i = 0; i < 100; i++) {
        double y = x * i;
        change(&first, &second);
        if (y != x * i) return 1;
    }
    return turns != 100;
}
"""


@pytest.mark.skipif(
    not (shutil.which("aarch64-linux-gnu-gcc") and shutil.which("qemu-aarch64")),
    reason="needs a compiler for ARM64 and an emulator",
)
def test_stacks_are_changed_on_arm64(tmp_path: Path) -> None:
    lines = "\n".join(gpu_stacks.CODE["arm"])
    (tmp_path / "change.s").write_text(f".globl change\nchange:\n{lines}\n")
    (tmp_path / "main.c").write_text(ARM_MAIN)
    n_bytes, start = gpu_stacks.FRAMES["arm"]
    command = ["aarch64-linux-gnu-gcc", "-O2", "-static", f"-DBYTES={n_bytes}", f"-DSTART={start}"]
    subprocess.run([*command, "main.c", "change.s", "-o", "main"], cwd=tmp_path, check=True)
    assert subprocess.run(["qemu-aarch64", "./main"], cwd=tmp_path).returncode == 0
