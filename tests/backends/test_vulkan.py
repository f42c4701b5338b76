"""The Vulkan backend: what the operation table and the models do not show."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import opens

from jitllm import backends
from jitllm.backends import _c_device
from jitllm.backends.base import BackendUnavailable, Batch, Weight
from jitllm.backends.ir import CacheSpec, Graph, Node, Value
from jitllm.kernels import formats

HERE = opens("vulkan")
needs_device = pytest.mark.skipif(not HERE, reason="no Vulkan loader or device here, or not built")
TOKENS = np.array([1, 20, 300, 45, 7, 99, 250, 301], np.int32)
SPEC = CacheSpec(0, ((2, 4, 6), (1, 8, 8)))


def _open() -> Any:
    return backends.open_backend("vulkan")


@needs_device
def test_weights_above_128_mib() -> None:
    rows, width = 70_000, 1024  # of float16: 137 MiB
    table = np.zeros((rows, width), np.float16)
    table[-3:] = np.random.default_rng(0).standard_normal((3, width))
    x, y = Value(0, "x", "O", width), Value(1, "y", "O", rows)
    nodes = (
        Node("embed", "x", (), (Value(2, "e", "T", width),), ("w",)),
        Node("select_outputs", "s", (Value(2, "e", "T", width),), (x,)),
        Node("matmul", "y", (x,), (y,), ("w", "")),
    )
    backend = _open()
    backend.add_weight(Weight("w", "F16", table.shape, table.view(np.uint8).reshape(-1)))
    program = backend.compile(Graph(nodes, (), rows), [], max_tokens=2, taps=frozenset())
    ids, two = np.array([rows - 1, rows - 3], np.int32), np.arange(2, dtype=np.int32)
    got = program.run(Batch(ids, two, two, []))[:, -3:]
    last = table[-3:].astype(np.float32)
    np.testing.assert_allclose(got, last[[2, 0]] @ last.T, rtol=1e-4, atol=1e-3)
    backend.close()


@needs_device
def test_types_without_a_shader_become_float16(caplog: pytest.LogCaptureFixture) -> None:
    values = np.random.default_rng(0).standard_normal((4, 256), np.float32)
    data = formats.quantize("TQ1_0", values).reshape(-1)
    backend = _open()
    with caplog.at_level(logging.WARNING, "jitllm.vulkan"):
        for name in ("a", "b"):
            backend.add_weight(Weight(name, "TQ1_0", values.shape, data))
    assert [record.getMessage()[:44] for record in caplog.records] == [
        "no kernel of the vulkan backend reads TQ1_0:"
    ]
    assert backend.memory()["weights"] == 2 * 2 * values.size
    backend.close()


@needs_device
def test_validation_layer_is_silent(tmp_path: Path) -> None:
    """A model and recurrences run with the layer; that it looks is seen by a wrong call."""
    code = (
        "import sys; from driver import Runner; from models import model_path\n"
        "from tiny import conformance_model\n"
        "from recurrent_cases import KINDS, Case\n"
        "for kind in KINDS: Case(kind).run('vulkan', [1, 13, 10])\n"
        "path = conformance_model('llama-dense.gqa', sys.argv[1])\n"
        "with Runner(path, 'vulkan', kv_dtype='q8_0/iq4_nl') as runner: runner.forward([1, 20])\n"
        "with Runner(model_path('stories260K'), 'vulkan', kv_dtype='f16') as runner:\n"
        "    runner.forward([1, 20, 300]); runner.forward([45], 3)\n"
        "    runner.pools[0].copy_page(0, 1)\n"
        "    if sys.argv[2:]: next(iter(runner.program._recorded.values()))[0].end()\n"  # again
    )
    folder = Path(__file__).parents[1]
    layer = "VK_LAYER_KHRONOS_validation"
    if not list(Path("/usr/share/vulkan").glob("*layer.d/*khronos_validation*.json")):
        pytest.skip(f"{layer} is not installed")

    def complaints(*arguments: str) -> str:
        environment = os.environ | {"VK_INSTANCE_LAYERS": layer, "PYTHONPATH": os.pathsep.join(
            [str(folder), *sys.path])}  # fmt: skip
        run = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "m.gguf"), *arguments],
            env=environment, capture_output=True, text=True, check=not arguments,
        )  # fmt: skip
        return run.stdout + run.stderr

    assert complaints() == ""
    assert "VUID" in complaints("wrongly")


def _open_elsewhere(**environment: str) -> str:
    code = "from jitllm import backends\nbackends.open_backend('vulkan')"
    run = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True
    )
    assert run.returncode == 1
    return run.stderr.strip().splitlines()[-1]


@needs_device
def test_no_device_is_told_apart() -> None:
    nothing = {"VK_ICD_FILENAMES": "/nonexistent", "VK_DRIVER_FILES": "/nonexistent"}
    assert "BackendUnavailable: Vulkan: " in _open_elsewhere(**nothing)
    other = _open_elsewhere(JITLLM_VULKAN_DEVICE="no such thing")
    assert "no usable Vulkan device" in other and "lacks the wanted name" in other


def test_a_missing_library_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_c_device, "__file__", str(tmp_path / "host.py"))
    _c_device._functions.cache_clear()
    try:
        with pytest.raises(BackendUnavailable, match="was not built.*no C compiler"):
            _open()
    finally:
        _c_device._functions.cache_clear()
