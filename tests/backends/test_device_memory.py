"""What devices tell of their memory."""

import pytest
from driver import opens, simulate_cuda

from jitllm import backends
from jitllm.backends._gpu.backend import GpuBackend

MIB = 1 << 20


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
