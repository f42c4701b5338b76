"""What devices tell of their memory."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from driver import opens, simulate_cuda

from jitllm import backends
from jitllm.backends._gpu.backend import GpuBackend

MIB = 1 << 20
GCC = shutil.which("gcc")


@pytest.mark.parametrize("name", ["cuda", "metal", "vulkan"])
def test_what_is_allocated_is_not_free(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_cuda(monkeypatch)
    if not opens(name):
        pytest.skip("no such device here")
    before = backends.device_memory(name)
    assert before and 64 * MIB < before.free <= before.total
    backend = backends.open_backend(name)
    assert isinstance(backend, GpuBackend)
    pieces = [backend.device.allocate(8 * MIB) for _ in range(2)]
    now = backend.device_memory()
    for piece in pieces:
        piece.free()
    backend.close()
    assert now.total == before.total and now.free <= before.free
    if name != "vulkan":  # whose drivers may not tell what is in use
        assert before.free - now.free >= 16 * MIB


def test_what_has_the_memory_of_the_host_tells_none() -> None:
    assert backends.device_memory("cpu") is None
    assert backends.device_memory("reference") is None


_TELL = """
from jitllm import backends
backend = backends.open_backend("vulkan")
memory = backend.device_memory()
print(memory.total, memory.free)
for line in open("/proc/self/maps"):
    if "/libvulkan.so" in line:
        print(line.split()[-1])
backend.close()
"""


@pytest.mark.skipif(not GCC or not Path("/proc").exists(), reason="there is no gcc, or no /proc")
@pytest.mark.skipif(not opens("vulkan"), reason="no Vulkan loader or device here")
def test_a_budget_counts_what_others_use(tmp_path: Path) -> None:
    def tell(**more: str) -> list[str]:
        run = subprocess.run(
            [sys.executable, "-P", "-c", _TELL], env=os.environ | more, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        return run.stdout.split()

    total, _, loader, *_ = tell()
    folder = Path(backends.__file__).parent / "vulkan"
    made = tmp_path / "libvulkan.so.1"
    source = Path(__file__).parents[1] / "vulkan_budget.c"
    flags = ("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{folder}")
    subprocess.run([str(GCC), *flags, "-o", str(made), str(source), "-ldl"], check=True)
    where = {"LD_LIBRARY_PATH": str(tmp_path), "VULKAN_LOADER": str(Path(loader).resolve())}
    for budget, free in ((700 * MIB, 600 * MIB), (50 * MIB, 0)):
        assert tell(**where, VULKAN_BUDGET=str(budget))[:2] == [total, str(free)]
