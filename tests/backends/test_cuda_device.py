"""The CUDA device over a stand-in for NVIDIA's driver, and over the simulator."""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from driver import Runner
from fake_cuda import FLAGS, SOURCE, Fake, build
from gpu_on_device import compare
from models import model_path

from jitllm.backends._cuda import device as cuda_device
from jitllm.backends._cuda import driver as cuda_driver
from jitllm.backends._cuda.device import CudaDevice, open_device
from jitllm.backends._cuda.driver import CudaDriver
from jitllm.backends._cuda.simulator import Simulator
from jitllm.backends.base import BackendUnavailable
from jitllm.kernels import level as levels
from jitllm.kernels.gpu import compiler as gpu_compiler
from jitllm.kernels.gpu import simulator as gpu_simulator

NORM = ("norm", (0, 0, 0))
needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The compiled stand-in."""
    return build(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def fake(library: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """The stand-in; nothing may be left in it."""
    library.fake_reset()
    fake = Fake(library)
    monkeypatch.setattr(gpu_compiler, "ptx", fake.ptx)
    yield fake
    fake.fail("", 0)
    assert fake.live() == {}


@pytest.fixture(params=[pytest.param("driver", marks=needs_compiler), "simulator", "gpu"])
def device(request: pytest.FixtureRequest) -> Iterator[CudaDevice]:
    """A device; nothing may be left in it."""
    if request.param == "gpu":
        try:
            device = CudaDevice(CudaDriver())
        except BackendUnavailable as error:
            pytest.skip(str(error))
    elif request.param == "driver":
        device = CudaDevice(request.getfixturevalue("fake").driver())
    else:
        device = CudaDevice(Simulator())
    yield device
    device.close()


def _norm(device: CudaDevice, n: int = 3, width: int = 96) -> Any:
    """Run a kernel on rows of x and on what it made of them; returns its pipeline."""
    x = np.random.default_rng(5).standard_normal((n, width)).astype(np.float32)
    rows, *places = (device.allocate(size) for size in (4, x.nbytes, x.nbytes, x.nbytes))
    source, first, second = places
    rows.upload(np.array([n], np.uint32))
    source.upload(x)
    pipeline, commands = device.pipeline(*NORM), device.commands()
    for a, b in ((source, first), (first, second)):
        values = [rows.address, a.address, b.address, 0, 0, width, width, width, 1e-6]
        block = gpu_simulator.packed(pipeline.code.parameters, values)
        commands.barrier()
        commands.dispatch(pipeline, block, (1, n, 1))
    commands.end()
    out = np.full_like(x, np.nan)
    for _ in range(2):
        commands.run()
        second.download(out)
    commands.free()
    for memory in (rows, *places):
        memory.free()
    expected = x / np.sqrt((x.astype(np.float64) ** 2).mean(1, keepdims=True) + 1e-6)
    assert np.allclose(out, expected, rtol=2e-6, atol=0)
    return pipeline


def test_a_graph_of_kernels_runs(device: CudaDevice) -> None:
    assert _norm(device) is _norm(device)


def test_memory(device: CudaDevice) -> None:
    memory, other = device.allocate(10), device.allocate(16, on_host=True)
    out = np.full(12, 7, np.uint8)
    memory.download(out)
    assert memory.nbytes == 12 and not out.any()
    memory.upload(np.arange(5, dtype=np.uint8)[::2], 4)
    other.copy_from(memory, 4, 1, 3)
    memory.upload(np.zeros(0, np.uint8))
    other.download(out, 2)
    assert out.tolist() == [2, 4, *[0] * 10]
    for start, n in ((-1, 2), (14, 4)):
        with pytest.raises(ValueError, match="of 16"):
            other.upload(np.zeros(n, np.uint8), start)
        with pytest.raises(ValueError, match="of 16"):
            other.download(np.zeros(n, np.uint8), start)
        with pytest.raises(ValueError, match="of 16"):
            other.copy_from(memory, 0, start, n)
    memory.free()
    memory.free()
    other.free()


def test_arrays_may_change_when_they_were_uploaded(device: CudaDevice) -> None:
    for n, times in ((1 << 16, 3), (1 << 20, 2), (4, 1000)):
        places = [device.allocate(n) for _ in range(times)]
        data = np.zeros(n // 4, np.int32)
        for i, place in enumerate(places):
            data[:] = i
            place.upload(data)
        data[:] = -1
        for i, place in enumerate(places):
            place.download(data)
            assert np.all(data == i)
            place.free()


def test_too_much_memory(device: CudaDevice) -> None:
    with pytest.raises(BackendUnavailable, match=r"bytes are needed, \d+ of \d+ are free"):
        device.allocate(1 << 60)


def test_commands_check_arguments(device: CudaDevice) -> None:
    commands = device.commands()
    with pytest.raises(ValueError, match=r"jitllm.*norm.* takes 56 bytes .*\(AAAAAUUUF\), got 8"):
        commands.dispatch(device.pipeline(*NORM), b"12345678", (1, 1, 1))
    commands.end()
    commands.run()
    commands.free()


@needs_compiler
def test_empty_groups_and_launches_are_left_out(fake: Fake) -> None:
    device, fake.runs = CudaDevice(fake.driver()), False
    pipeline, commands = device.pipeline(*NORM), device.commands()
    block = bytes(56)
    for group in range(3):
        for i in range(2):
            commands.dispatch(pipeline, block[:-4] + np.float32(group).tobytes(), (1, 1 + i, 2))
        commands.dispatch(pipeline, block, (0, 1, 1))  # nothing to do
        commands.barrier()
        commands.barrier()
    commands.end()
    commands.run()
    last = [np.frombuffer(block[-4:], np.float32)[0] for _, block, _ in fake.launched]
    assert last == [0, 0, 1, 1, 2, 2]
    assert [sizes[:3] for _, _, sizes in fake.launched] == [[1, 1, 2], [1, 2, 2]] * 3
    commands.free()
    device.close()


@needs_compiler
def test_the_second_device_by_name(fake: Fake) -> None:
    driver = fake.driver("big")
    assert (driver.name, driver.capability) == ("Big GPU", (9, 1))
    assert driver.multiprocessors == 111
    driver.close()
    with pytest.raises(BackendUnavailable, match=r"no device is called 'other'.*'Small GPU'"):
        fake.driver("other")


@needs_compiler
def test_arguments_and_sizes_reach_the_kernel(fake: Fake) -> None:
    device = CudaDevice(fake.driver())
    _norm(device, n=2, width=32)
    assert [name for name, _, _ in fake.launched] == ["jitllm_norm_0_0_0"] * 4
    threads = device.pipeline(*NORM).code.threads
    assert {tuple(sizes) for _, _, sizes in fake.launched} == {(1, 2, 1, threads, 1, 1)}
    words = np.frombuffer(fake.launched[0][1][40:], np.uint32)
    assert words[:3].tolist() == [32, 32, 32] and len(words) == 4
    device.close()


@needs_compiler
def test_kernel_tests_can_run_on_a_device(fake: Fake) -> None:
    """The stand-in runs the norm whatever it is asked for."""
    driver = fake.driver()
    x, y = np.ones((2, 32), np.float32), np.zeros((2, 32), np.float32)
    n = np.array([2], np.uint32)
    arguments = [n, x, y, None, None, 32, 32, 32, 3.0]
    code = gpu_compiler.ptx(*NORM, (9, 0))
    expected = [n, x, np.full_like(x, 0.5)]
    assert compare(driver, lambda cc: code, arguments, (1, 2, 1), expected)
    expected[2][1, 3] = 0.501
    with pytest.raises(AssertionError, match="jitllm_norm_0_0_0 on the GPU"):
        compare(driver, lambda cc: code, arguments, (1, 2, 1), expected)
    reads = gpu_compiler.Code(**{**vars(code), "data": b"ld.global.b64 %rd1, [%rd2];"})
    assert not compare(driver, lambda cc: reads, arguments, (1, 2, 1), expected)
    driver.close()


@needs_compiler
def test_a_model_over_the_driver_has_the_simulators_bits(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_driver, "library", lambda: fake.library)
    results = []
    for chosen in ("", "simulator"):
        monkeypatch.setenv("JITLLM_CUDA", chosen)
        with Runner(model_path("stories260K"), "cuda", kv_dtype="f16") as runner:
            results.append([runner.forward([1, 403, 407, 261]), runner.forward([378], 4)])
    assert fake.launched
    for driver, simulator in zip(*results, strict=True):
        assert np.array_equal(driver, simulator)


def test_what_nobody_wrote_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """All memory is NaN before it is written, in place of zeros: no kernel uses what was there."""
    monkeypatch.setenv("JITLLM_CUDA", "simulator")
    allocate, results = Simulator.allocate, []

    def poisoned(driver: Simulator, nbytes: int) -> int:
        address = allocate(driver, nbytes)
        ctypes.memset(address, 0xFF, nbytes)
        return address

    for method in (allocate, poisoned):
        monkeypatch.setattr(Simulator, "allocate", method)
        with Runner(model_path("stories260K"), "cuda", kv_dtype="f16") as runner:
            results.append([runner.forward([1, 403, 407, 261]), runner.forward([378], 4)])
    for zeroed, other in zip(*results, strict=True):
        assert np.array_equal(zeroed, other)


@needs_compiler
def test_time_of_a_graph(fake: Fake) -> None:
    driver = fake.driver()
    graph = driver.graph([])
    assert driver.seconds(graph) == 0.0015
    driver.free_graph(graph)
    driver.close()


@needs_compiler
def test_memory_that_cannot_be_zeroed_is_freed(fake: Fake) -> None:
    device = CudaDevice(fake.driver())
    fake.fail("cuMemsetD8Async", 1)
    with pytest.raises(BackendUnavailable, match="cuMemsetD8Async"):
        device.allocate(64)
    assert fake.live() == {"streams": 1, "contexts": 1}
    device.close()


@needs_compiler
def test_a_kernel_that_the_driver_refuses(fake: Fake) -> None:
    driver, code = fake.driver(), gpu_compiler.ptx(*NORM, (9, 0))
    broken = gpu_compiler.Code(**{**vars(code), "data": b".entry broken("})
    with pytest.raises(BackendUnavailable, match=r"INVALID_PTX .*norm_0_0_0: ptxas .* broken"):
        driver.load(broken)
    renamed = gpu_compiler.Code(**{**vars(code), "name": "other"})
    with pytest.raises(BackendUnavailable, match="cuModuleGetFunction"):
        driver.load(renamed)
    driver.close()


@needs_compiler
@pytest.mark.parametrize("name", ["cuGraphAddKernelNode", "cuGraphInstantiateWithFlags"])
def test_a_graph_that_cannot_be_made(fake: Fake, name: str) -> None:
    device = CudaDevice(fake.driver())
    commands = device.commands()
    commands.dispatch(device.pipeline(*NORM), bytes(56), (1, 1, 1))
    fake.fail(name, 1)
    with pytest.raises(BackendUnavailable, match=name):
        commands.end()
    assert "graphs" not in fake.live()
    device.close()


@needs_compiler
def test_several_devices_have_numbers(fake: Fake) -> None:
    for wanted, index, name in (
        ("", 0, "Small"),
        ("", 1, "Big"),
        ("gpu", 1, "Big"),
        ("big", 0, "Big"),
    ):
        driver = fake.driver(wanted, index)
        assert driver.name == f"{name} GPU"
        driver.close()
    with pytest.raises(BackendUnavailable, match="no device number 1 is called 'big'"):
        fake.driver("big", 1)


@needs_compiler
def test_a_lost_device_says_so_at_every_call(library: Any) -> None:
    library.fake_reset()
    fake = Fake(library)
    device = CudaDevice(fake.driver())
    memory, commands = device.allocate(4), device.commands()
    commands.dispatch(device.pipeline(*NORM), bytes(56), (1, 1, 1))
    commands.end()
    fake.fail("cuStreamSynchronize", 700)
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match="ILLEGAL_ADDRESS .*cannot be used again"):
            commands.run()
    with pytest.raises(BackendUnavailable, match="cannot be used again"):
        memory.upload(np.zeros(1, np.float32))
    commands.free()
    memory.free()
    device.close()
    assert set(fake.live().values()) == {1}  # the driver frees all that when the process ends
    fake.library.fake_reset()


@needs_compiler
def test_a_device_of_the_process_before_a_fork(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    device = CudaDevice(fake.driver())
    memory, live = device.allocate(4), fake.live()
    monkeypatch.setattr(os, "getpid", lambda: 0)
    with pytest.raises(BackendUnavailable, match="Small GPU: .* opened before a fork .*'spawn'"):
        memory.upload(np.zeros(1, np.float32))
    memory.free()
    device.close()
    assert fake.live() == live  # that process frees it
    fake.library.fake_reset()


@needs_compiler
@pytest.mark.parametrize("status, reason", [(3, "before a fork"), (222, "470 or newer")])
def test_errors_that_have_a_reason(fake: Fake, status: int, reason: str) -> None:
    fake.fail("cuInit", status)
    with pytest.raises(BackendUnavailable, match=f"^CUDA: cuInit: .*{reason}"):
        fake.driver()


@needs_compiler
@pytest.mark.parametrize(
    "name", ["cuInit", "cuDeviceGetAttribute", "cuDevicePrimaryCtxRetain", "cuStreamCreate"]
)
def test_a_device_that_cannot_be_opened(fake: Fake, name: str) -> None:
    fake.fail(name, 100)
    with pytest.raises(BackendUnavailable, match=f"{name}: CUDA_ERROR_NO_DEVICE"):
        fake.driver()


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise OSError(f"{name}: not found")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    monkeypatch.delenv("JITLLM_CUDA", raising=False)
    with pytest.raises(BackendUnavailable, match="NVIDIA's driver.*JITLLM_CUDA=simulator"):
        open_device()


def test_a_driver_without_a_function() -> None:
    with pytest.raises(BackendUnavailable, match="too old: it lacks cuInit, which 470"):
        CudaDriver("", object())


def test_a_device_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    class Old:
        capability, name = (6, 1), "old"

        def __init__(self, wanted: str, index: int) -> None:
            pass

        def close(self) -> None:
            closed.append(self)

    monkeypatch.setattr(cuda_device, "CudaDriver", Old)
    monkeypatch.delenv("JITLLM_CUDA", raising=False)
    with pytest.raises(BackendUnavailable, match=r"old: compute capability 6\.1 is below 7\.5"):
        open_device()
    assert closed


def test_simulator_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JITLLM_CUDA", "simulator")
    device = open_device()
    assert (device.name, device.is_cpu) == ("simulator", True)
    device.close()
    monkeypatch.setenv("JITLLM_CUDA", "other")
    with pytest.raises(ValueError, match="'simulator', got 'other'"):
        open_device()


@pytest.mark.parametrize(
    "what, value, reason",
    [("sys.platform", "win32", "Linux and macOS"),
     ("llvm.llvm_version_info", (15, 0, 7), "llvmlite 0.45"),
     ("levels.current", lambda: levels.by_name("plain"), "converts float16")],
)  # fmt: skip
def test_where_nothing_can_be_simulated(
    monkeypatch: pytest.MonkeyPatch, what: str, value: Any, reason: str
) -> None:
    monkeypatch.setattr(f"jitllm.kernels.gpu.host.{what}", value)
    monkeypatch.setenv("JITLLM_CUDA", "simulator")
    with pytest.raises(BackendUnavailable, match=f"the simulated CUDA device: .*{reason}"):
        open_device()


def test_the_simulator_finds_what_is_not_the_devices_memory() -> None:
    device = CudaDevice(Simulator())
    commands, memory = device.commands(), device.allocate(64)
    pipeline = device.pipeline(*NORM)
    values = [memory.address + 64, *[memory.address] * 2, 0, 0, 16, 16, 16, 1e-6]
    block = gpu_simulator.packed(pipeline.code.parameters, values)
    commands.dispatch(pipeline, block, (1, 1, 1))
    commands.end()
    with pytest.raises(BackendUnavailable, match="simulator: .*norm.* 0 bytes behind the end"):
        commands.run()
    device.close()


@needs_compiler
def test_prototypes_are_those_of_the_header() -> None:
    """CUDA_INCLUDE: a folder with cuda.h, such as that of the wheel nvidia-cuda-runtime."""
    folder = os.environ.get("CUDA_INCLUDE")
    if not folder:
        pytest.skip("CUDA_INCLUDE is not set")
    for version in ((), ("-D__CUDA_API_VERSION_INTERNAL",)):
        command = ["gcc", *FLAGS, "-Wno-enum-conversion", "-fsyntax-only", "-DREAL_HEADER"]
        subprocess.run([*command, *version, f"-I{folder}", str(SOURCE)], check=True)


def test_every_function_of_the_table_is_in_the_stand_in() -> None:
    text = SOURCE.read_text("utf-8")
    assert [name for name in cuda_driver.FUNCTIONS if f"CUDAAPI {name}(" not in text] == []


def test_importing_the_device_imports_no_numba() -> None:
    code = "import sys; import jitllm.backends._cuda.device, jitllm.backends._cuda.simulator; "
    code += "sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code]).returncode == 0
