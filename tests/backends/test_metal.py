"""The Metal backend, over the stand-in where there is no Metal: its device, and what it names."""

import gc
import importlib.util
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import macho
import metal_api
import metal_standin
import numpy as np
import pytest
from driver import Runner, nmse, opens
from models import model_path

from jitllm import backends
from jitllm.backends import _c_device
from jitllm.backends._c_device import Api, CDevice
from jitllm.backends._gpu.device import Memory
from jitllm.backends.base import BackendUnavailable

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "backends" / "metal" / "jit_metal.c"
needs_device = pytest.mark.skipif(not opens("metal"), reason="no Metal here, and no stand-in")
needs_standin = pytest.mark.skipif(
    not opens("metal") or not metal_standin.is_used(), reason="no stand-in here"
)
_TEXT = """#include <metal_stdlib>
using namespace metal;
#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 0u
#endif
constant uint LANES = SPIRV_CROSS_CONSTANT_ID_0;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(8u, 2u, 1u);
struct U32 { uint v[1]; };
struct Arguments { device U32* x; device U32* y; uint n; };

kernel void main0(constant Arguments& a [[buffer(0)]], \
uint3 group [[threadgroup_position_in_grid]], uint3 groups [[threadgroups_per_grid]], \
uint3 own [[thread_position_in_threadgroup]])
{
    threadgroup uint shared[16];
    uint lane = own.y * 8u + own.x;
    uint at = ((group.z * groups.y + group.y) * groups.x + group.x) * 16u + lane;
BODY
}
"""
BODIES = {
    "count": "a.y->v[at] = a.x->v[at] + a.n + LANES;",
    "turn": "shared[lane] = a.x->v[at]; threadgroup_barrier(mem_flags::mem_threadgroup);\n"
            "a.y->v[at] = shared[15u - lane];",
    "unset": "a.y->v[at] = shared[lane];",
    "part": "if (lane < 4u) { threadgroup_barrier(mem_flags::mem_threadgroup); }",
    "two": "if (lane < 4u) { threadgroup_barrier(mem_flags::mem_threadgroup); }\n"
           "else { threadgroup_barrier(mem_flags::mem_threadgroup); }",
    "large": "    threadgroup uint more[8200]; more[lane] = lane;\n"
             "threadgroup_barrier(mem_flags::mem_threadgroup); shared[lane] = more[15u - lane];\n"
             "a.y->v[at] = shared[lane];",
    "wrong": "a.y->v[at] = nothing;",
    "divides": "a.y->v[at] = LANES / a.n;",
    "beyond": "spvUnsafeArray<uint, 4> few; few[at] = a.n; a.y->v[at] = few[at % 4u];",
    "beside": "shared[lane + 1u] = a.n; a.y->v[at] = shared[lane];",
}  # fmt: skip


def _code(kernel: str) -> bytes:
    text = _TEXT if kernel != "sizeless" else _TEXT.replace("gl_WorkGroupSize", "size")
    return text.replace("BODY", BODIES.get(kernel, "")).encode()


@pytest.fixture
def device() -> Iterator[CDevice]:
    """A device whose kernels are those above; nothing of it stays."""
    before = metal_standin.live_objects()
    device = CDevice(Api("Metal", "_jit_metal", "jm_", _code))
    yield device
    device.close()
    assert metal_standin.live_objects() == before


def _numbers(memory: Memory) -> list[int]:
    out = np.empty(memory.nbytes // 4, np.uint32)
    memory.download(out)
    return out.tolist()


def _run(device: CDevice, kernel: str, *steps: tuple[int, int, int], barriers: bool = True) -> None:
    """Run a kernel for every (x, y, n)."""
    commands = device.commands()
    pipeline = device.pipeline(kernel, (100,))
    for x, y, n in steps:
        commands.dispatch(pipeline, struct.pack("<QQI", x, y, n), (1, 1, 1))
        if barriers:
            commands.barrier()
    commands.end()
    try:
        commands.run()
        commands.run()
    finally:
        commands.free()


# --- the device ---


@needs_device
def test_grids_reach_every_place(device: CDevice) -> None:
    x, y = device.allocate(16 * 4 * 24), device.allocate(16 * 4 * 24)
    x.upload(np.arange(16 * 24, dtype=np.uint32))
    commands, pipeline = device.commands(), device.pipeline("count", (7,))
    commands.dispatch(pipeline, struct.pack("<QQI", x.address, y.address, 1000), (2, 3, 4))
    commands.dispatch(pipeline, struct.pack("<QQI", 0, 0, 0), (5, 0, 1))  # nothing to do
    commands.end()
    commands.run()
    assert _numbers(y) == list(range(1007, 1007 + 16 * 24))
    x.copy_from(y, 8, 0, 16)
    assert _numbers(x)[:5] == [1009, 1010, 1011, 1012, 4]
    for each in (x, y, commands):
        each.free()


@needs_device
def test_long_recordings_run_in_order(device: CDevice) -> None:
    x = device.allocate(64)
    _run(device, "count", *[(x.address, x.address, 1)] * 200)
    assert _numbers(x) == [2 * 200 * 101] * 16
    x.free()


@needs_device
def test_threads_of_a_workgroup_share_memory(device: CDevice) -> None:
    x = device.allocate(64)
    x.upload(np.arange(16, dtype=np.uint32))
    _run(
        device,
        "turn",
        (x.address, x.address, 0),
        (x.address, x.address, 0),
        (x.address,) * 2 + (0,),
    )
    assert _numbers(x) == list(range(16))
    x.free()


@needs_standin
def test_missing_barriers_are_seen(device: CDevice) -> None:
    x = device.allocate(3 * 64)
    first, second, third = (x.address + 64 * i for i in range(3))
    steps = (first, second, 1), (second, third, 1)
    _run(device, "count", *steps, barriers=False)
    assert _numbers(x)[32:] == [202] * 16  # of the run before
    _run(device, "count", *steps)
    assert _numbers(x)[32:] == [202] * 16
    x.upload(np.ones(16, np.uint32))
    _run(device, "count", *steps)
    assert _numbers(x)[32:] == [203] * 16
    x.free()


@needs_standin
@pytest.mark.parametrize("kernel, message", [
    ("part", r"workgroup \(0, 0, 0\) part: 4 of 16 at the barrier of line \d+, 12 ended"),
    ("two", r"part: 4 of 16 at the barrier of line \d+, 0 ended"),
    ("wrong", "(?s)a kernel does not compile: .*nothing"),
    ("sizeless", "does not tell the size of its workgroups"),
    ("divides", "a thread does what is undefined"),
    ("beyond", "a thread does what is undefined"),
    ("beside", "a thread does what is undefined"),
    ("large", "no pipeline: threadgroup memory exceeds 32768 bytes"),
])  # fmt: skip
def test_wrong_kernels_are_errors(device: CDevice, kernel: str, message: str) -> None:
    y = device.allocate(64)
    with pytest.raises(BackendUnavailable, match=message):
        _run(device, kernel, (y.address, y.address, 0))
    y.free()


@needs_standin
def test_memory_that_is_not_there_is_an_error(device: CDevice) -> None:
    x, gone = device.allocate(64), device.allocate(64)
    address = gone.address
    gone.free()
    for wrong in (0, address, x.address + 16, x.address + 4096):
        with pytest.raises(BackendUnavailable, match="stand-in: page fault at"):
            _run(device, "count", *[(x.address, x.address, 0)] * 100, (wrong, x.address, 0))
    with pytest.raises(BackendUnavailable, match="a thread does what is undefined"):
        _run(device, "count", (x.address - 2, x.address, 0))  # no multiple of 4
    x.upload(np.zeros(16, np.uint32))
    _run(device, "count", (x.address, x.address, 1))  # the device works on
    assert _numbers(x) == [202] * 16
    x.free()


@needs_device
def test_devices_of_several_threads() -> None:
    outputs = []

    def run() -> None:
        device = CDevice(Api("Metal", "_jit_metal", "jm_", _code))
        x = device.allocate(64)
        for _ in range(5):
            _run(device, "turn", (x.address, x.address, 0), (x.address, x.address, 0))
            _run(device, "count", *[(x.address, x.address, 1)] * 50)
        outputs.append(_numbers(x))
        x.free()
        device.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == [[5 * 2 * 50 * 101] * 16] * 4


@needs_standin
def test_memory_of_a_workgroup_begins_as_nothing(device: CDevice) -> None:
    x = device.allocate(64)
    _run(device, "unset", (x.address, x.address, 0))
    assert _numbers(x) == [0xFFFFFFFF] * 16
    x.free()


# --- opening and closing ---


@needs_standin
def test_no_device_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def reason() -> str:
        with pytest.raises(BackendUnavailable) as error:
            backends.open_backend("metal")
        return str(error.value)

    monkeypatch.setenv("JITLLM_METAL_DEVICE", "no such thing")
    assert reason() == "Metal: none of 1 Metal devices has no such thing in its name"
    monkeypatch.setenv("JITLLM_METAL_DEVICE", "stand")
    backends.open_backend("metal").close()
    monkeypatch.setenv("METAL_STANDIN_IS_OLD", "1")
    assert reason().startswith("Metal: Metal stand-in lacks Metal 3: macOS 13 or later")
    monkeypatch.setenv(metal_standin.VARIABLE, str(SOURCE))
    assert reason().startswith("Metal: JITLLM_METAL_RUNTIME: ")
    monkeypatch.setenv(metal_standin.VARIABLE, "")
    assert reason() == "Metal: this system has no Metal; macOS 13 and later have it"


@needs_standin
def test_opening_and_closing_leaves_nothing() -> None:
    def resident() -> int:
        gc.collect()
        pages = Path("/proc/self/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    tokens = np.array([1, 20, 300, 45, 7, 99, 250, 301], np.int32)
    outputs, sizes = [], []
    before = metal_standin.live_objects()
    for _ in range(50):
        with Runner(model_path("stories260K"), "metal") as runner:
            outputs.append(runner.forward(tokens))
            assert metal_standin.live_objects() > before
        assert metal_standin.live_objects() == before
        sizes.append(resident())
    assert max(sizes) - sizes[9] < 8 << 20
    assert all(np.array_equal(each, outputs[0]) for each in outputs)
    with Runner(model_path("stories260K"), "reference") as runner:
        assert nmse(outputs[0], runner.forward(tokens)) < 1e-12


# --- what stands in the C file ---


def test_messages_are_those_of_the_headers_of_apple() -> None:
    own = metal_api.HEADER.read_text("utf-8")
    recorded = json.loads((ROOT / "tests" / "data" / "metal_api.json").read_text("utf-8"))
    assert metal_api.messages(own) == recorded["messages"]
    assert metal_api.values(own) == recorded["values"]
    assert own.count("    X(") == len(recorded["messages"]) > 30


def test_compiles_for_arm64_macos(tmp_path: Path) -> None:
    clang = next(filter(shutil.which, ("clang", "clang-14", "clang-16", "clang-19")), None)
    if not clang:
        pytest.skip("clang is not installed")
    out = tmp_path / "jit_metal.o"
    headers = metal_standin.SOURCES / "apple"
    command = [
        clang, "-target", "arm64-apple-macos13", "-nostdlibinc", "-isystem", str(headers),
        "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-c", str(SOURCE), "-o", str(out),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    code = out.read_bytes()
    names, undefined = macho.symbols(code)
    assert macho.machine(code) == macho.ARM64
    assert names == {f"_jm_{name}" for name in _c_device._FUNCTIONS}
    known = "dlopen dlsym dlerror calloc malloc realloc free getenv memcpy memset bzero snprintf"
    assert {"_dlopen", "_dlsym"} <= undefined
    assert undefined <= {f"_{name}" for name in (known + " sscanf strstr").split()}


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["aarch64", "x86_64"])
def test_links_for_macos(tmp_path: Path, processor: str) -> None:
    zig = [shutil.which("zig") or ""]
    if importlib.util.find_spec("ziglang"):
        zig = [sys.executable, "-m", "ziglang"]
    if not zig[0]:
        pytest.skip("zig, which has macOS's headers, is not installed (a package: ziglang)")
    out = tmp_path / "jit_metal.dylib"
    command = [
        *zig, "cc", "-target", f"{processor}-macos.13.0", "-std=gnu11",
        "-O2", "-Wall", "-Wextra", "-Werror", "-shared", str(SOURCE), "-o", str(out),
    ]  # fmt: skip
    environment = {f"ZIG_{kind}_CACHE_DIR": str(tmp_path / kind) for kind in ("GLOBAL", "LOCAL")}
    subprocess.run(command, check=True, env=os.environ | environment)
    assert out.stat().st_size > 10_000
