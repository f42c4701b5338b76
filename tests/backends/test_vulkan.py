"""The Vulkan backend: what the operation table and the models do not show."""

import gc
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import Runner, nmse, opens
from models import model_path
from variants import variant_model

import jitllm
from jitllm import backends
from jitllm.backends import _c_device
from jitllm.backends._array_pool import ArrayPool
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
@pytest.mark.parametrize("kv_dtype", ["f32", "f16", "bf16", "f16/f32"])
def test_pools_are_those_of_this_machine(kv_dtype: str) -> None:
    backend, rng = _open(), np.random.default_rng(1)
    pool, own = backend.new_pool(SPEC, 3, kv_dtype), ArrayPool(SPEC, 3, kv_dtype, np.zeros)
    assert (pool.page_bytes, pool.cell_bytes(0)) == (own.page_bytes, own.cell_bytes(0))
    keys, values = (rng.standard_normal((64, n), np.float32) for n in (8, 12))
    for each in (pool, own):
        each.write(0, 1, keys, values)
        each.copy_page(1, 2)
    for page in range(3):
        for got, want in zip(pool.read(0, page), own.read(0, page), strict=True):
            np.testing.assert_array_equal(got, want)
    cells = np.empty((2, 5 * pool.cell_bytes(0)), np.uint8)
    for each, out in zip((pool, own), cells, strict=True):
        each.read_cells(0, 2, 7, 12, out)
    np.testing.assert_array_equal(*cells)
    pool.write_cells(0, 0, 59, 64, cells[0])
    np.testing.assert_array_equal(pool.read(0, 0)[0][59:], own.read(0, 2)[0][7:12])
    assert backend.memory()["caches"] == 3 * pool.page_bytes
    backend.close()
    assert backend.memory() == {"weights": 0, "caches": 0, "buffers": 0}


@needs_device
def test_states_are_kept() -> None:
    backend = _open()
    states = backend.new_states((3, 5), 2)
    states.write(1, 1, np.arange(5, dtype=np.float32))
    np.testing.assert_array_equal(states.read(1, 1), np.arange(5))
    assert not states.read(0, 1).any() and not states.read(1, 0).any()
    backend.close()


@needs_device
def test_taps_see_and_change_values() -> None:
    names = ["blk.1.l_out", "blk.0.attn_q", "output"]
    runs: dict[str, Any] = {}
    for device in ("reference", "vulkan"):
        seen: dict[str, Any] = {}

        def look(name: str, values: Any, seen: dict[str, Any] = seen) -> None:
            seen[name] = values.copy()
            if name == "blk.1.l_out":
                values[3:] = 0.5

        with Runner(model_path("stories260K"), device, taps=names) as runner:
            plain, changed = runner.forward(TOKENS), runner.forward(TOKENS, tap=look)
        runs[device] = seen | {"changed": changed}
        np.testing.assert_array_equal(changed[:3], plain[:3])
        assert np.abs(changed[3:] - plain[3:]).max() > 0.1
    assert list(runs["vulkan"]) == list(runs["reference"])
    for name, want in runs["reference"].items():
        assert nmse(runs["vulkan"][name], want) < 1e-10


@needs_device
def test_patterns_are_shown_and_used(tmp_path: Path) -> None:
    path = variant_model("gemma3-windows", tmp_path / "m.gguf")
    name, runs = "blk.2.kqv_out.pattern", {}
    for device in ("reference", "vulkan"):
        seen: list[Any] = []

        def first_only(_: str, pattern: Any, seen: list[Any] = seen) -> None:
            seen.append(pattern.copy())
            pattern[:] = 0
            pattern[..., 0] = 1

        with Runner(path, device, taps=[name]) as runner:
            runner.forward(TOKENS % 128)
            runs[device] = runner.forward(TOKENS % 128, 8, tap=first_only), seen[0]
    for got, want in zip(runs["vulkan"], runs["reference"], strict=True):
        assert nmse(got, want) < 1e-10


@needs_device
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 13])
def test_rows_between_classes(n: int) -> None:
    tokens = (np.arange(30) * 37 % 500).astype(np.int32)
    with Runner(model_path("stories260K"), "vulkan") as runner:
        whole = runner.forward(tokens)
        runner.program.max_tokens = n  # the driver cuts its input by it
        assert nmse(runner.forward(tokens), whole) < 1e-11


@needs_device
def test_half_precision_cache_is_near() -> None:
    with Runner(model_path("stories260K"), "vulkan") as runner:
        exact = runner.forward(TOKENS)
    for kv_dtype in ("f16", "bf16"):
        with Runner(model_path("stories260K"), "vulkan", kv_dtype=kv_dtype) as runner:
            assert 0 < nmse(runner.forward(TOKENS), exact) < 1e-3


@needs_device
def test_greedy_text_is_that_of_the_reference() -> None:
    texts = []
    for device in ("vulkan", "reference"):
        with jitllm.load(model_path("stories260K"), device=device, progress=False) as model:
            texts.append(model.generate("Once upon a time", max_tokens=24, temperature=0.0).text)
    assert texts[0] == texts[1]


@needs_device
@pytest.mark.slow
def test_greedy_text_of_smollm2() -> None:
    texts = []
    options: dict[str, Any] = {"precision": "exact", "progress": False}
    for device in ("vulkan", "cpu"):
        with jitllm.load(model_path("smollm2"), device=device, **options) as model:
            prompt = "Photosynthesis is the process by which"
            texts.append(model.generate(prompt, max_tokens=16, temperature=0.0).text)
    assert texts[0] == texts[1]


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
def test_refusals() -> None:
    with pytest.raises(TypeError, match="n_gpu_layers"):
        backends.open_backend("vulkan", n_gpu_layers=3)
    with pytest.raises(ValueError, match="precision"):
        backends.open_backend("vulkan", precision="double")
    backend, value = _open(), Value(0, "x", "O", 4)

    def compile(node: Node, pools: Any = (), taps: frozenset[str] = frozenset()) -> None:
        backend.compile(Graph((node,), (), 4), pools, max_tokens=1, taps=taps)

    with pytest.raises(BackendUnavailable, match=r"no operation 'magic' \(node 'x'\)"):
        compile(Node("magic", "x", (), (value,)))
    with pytest.raises(ValueError, match=r"node 'x': weights \['w'\] were not added"):
        compile(Node("embed", "x", (), (value,), ("w",)))
    with pytest.raises(ValueError, match="no such hook points.*nothing"):
        compile(Node("select_outputs", "x", (value,), (value,)), taps=frozenset({"nothing"}))
    with pytest.raises(ValueError, match="expected pools"):
        compile(Node("select_outputs", "x", (value,), (value,)), [backend.new_pool(SPEC, 1, "f32")])
    with pytest.raises(BackendUnavailable, match="has caches of f32, f16, bf16; got 'q8_0'"):
        backend.new_pool(CacheSpec(0, ((1, 32, 32),)), 1, "q8_0")
    with pytest.raises(BackendUnavailable, match="at most"):
        backend.new_pool(SPEC, 1 << 40, "f32")
    backend.close()


@needs_device
def test_tables_and_ids_are_checked() -> None:
    with Runner(model_path("stories260K"), "vulkan") as runner:
        plain = runner.forward(TOKENS)
        with pytest.raises(ValueError, match="token ids must be from 0 to 511"):
            runner.forward([512])
        for pages in ([0, 9], [-1], []):
            runner.tables = [np.array(pages, np.int32)]
            with pytest.raises(ValueError, match="cannot hold positions 0 to 7"):
                runner.forward(TOKENS)
        runner.tables = [np.array([3], np.int32)]
        np.testing.assert_array_equal(runner.forward(TOKENS), plain)


@needs_device
def test_opening_and_closing_leaves_nothing() -> None:
    def resident() -> int:
        gc.collect()
        pages = Path("/proc/self/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def once() -> None:
        with Runner(model_path("stories260K"), "vulkan") as runner:
            runner.forward(TOKENS)

    for _ in range(5):
        once()
    before, threads = resident(), len(os.listdir("/proc/self/task"))
    for _ in range(20):
        once()
    assert resident() - before < 8 << 20
    assert len(os.listdir("/proc/self/task")) <= threads


@needs_device
def test_validation_layer_is_silent() -> None:
    """A model runs in a process with the layer; that the layer looks is seen by a wrong call."""
    code = (
        "import sys; from driver import Runner; from models import model_path\n"
        "with Runner(model_path('stories260K'), 'vulkan', kv_dtype='f16') as runner:\n"
        "    runner.forward([1, 20, 300]); runner.forward([45], 3)\n"
        "    runner.pools[0].copy_page(0, 1)\n"
        "    if sys.argv[1:]: runner.program._recorded[1, 1][0].end()\n"  # it has ended already
    )
    folder = Path(__file__).parents[1]
    layer = "VK_LAYER_KHRONOS_validation"
    if not list(Path("/usr/share/vulkan").glob("*layer.d/*khronos_validation*.json")):
        pytest.skip(f"{layer} is not installed")

    def complaints(*arguments: str) -> str:
        environment = os.environ | {"VK_INSTANCE_LAYERS": layer, "PYTHONPATH": os.pathsep.join(
            [str(folder), *sys.path])}  # fmt: skip
        run = subprocess.run(
            [sys.executable, "-c", code, *arguments], env=environment, capture_output=True,
            text=True, check=not arguments,
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
