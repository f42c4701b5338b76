"""What all GPU backends must do beside operations and models: caches, hook points, refusals."""

import gc
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import Runner, nmse, opens, simulate_cuda
from models import model_path
from variants import variant_model

import jitllm
from jitllm import backends
from jitllm.backends._array_pool import ArrayPool
from jitllm.backends._gpu.program import GpuProgram
from jitllm.backends.base import BackendUnavailable, Batch, Segment, Weight
from jitllm.backends.ir import CacheSpec, Graph, Node, Value
from jitllm.kernels import cache_types

TOKENS = np.array([1, 20, 300, 45, 7, 99, 250, 301], np.int32)
SPEC = CacheSpec(0, ((2, 4, 6), (1, 8, 8)))
BLOCKS = CacheSpec(0, ((2, 64, 32), (1, 32, 64)))


@pytest.fixture(params=["cuda", "metal", "vulkan"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a GPU backend."""
    simulate_cuda(monkeypatch)
    name: str = request.param
    if not opens(name):
        pytest.skip(f"no device for {name} here")
    return name


@pytest.mark.parametrize("kv_dtype", ["f32", "f16", "bf16", "f16/f32"])
def test_pools_are_those_of_this_machine(device: str, kv_dtype: str) -> None:
    backend, rng = backends.open_backend(device), np.random.default_rng(1)
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


@pytest.mark.parametrize("kv_dtype", [*cache_types.QUANTIZED, "q8_0/f16"])
def test_pools_of_quantized_types(device: str, kv_dtype: str) -> None:
    backend, rng = backends.open_backend(device), np.random.default_rng(1)
    pool, own = backend.new_pool(BLOCKS, 2, kv_dtype), ArrayPool(BLOCKS, 2, kv_dtype, np.zeros)
    keys, values = (rng.standard_normal((64, n), np.float32) for n in (128, 64))
    for each in (pool, own):
        each.write(0, 1, keys, values)
        each.copy_page(1, 0)
    for got, want in zip(pool.read(0, 0), own.read(0, 0), strict=True):
        np.testing.assert_array_equal(got, want)
    assert backend.memory()["caches"] == 2 * own.page_bytes
    backend.close()


def test_states_are_kept(device: str) -> None:
    backend = backends.open_backend(device)
    states = backend.new_states((3, 5), 2)
    states.write(1, 1, np.arange(5, dtype=np.float32))
    np.testing.assert_array_equal(states.read(1, 1), np.arange(5))
    assert not states.read(0, 1).any() and not states.read(1, 0).any()
    backend.close()


def test_taps_see_and_change_values(device: str) -> None:
    names = ["blk.1.l_out", "blk.0.attn_q", "output"]
    runs: dict[str, Any] = {}
    for each in ("reference", device):
        seen: dict[str, Any] = {}

        def look(name: str, values: Any, seen: dict[str, Any] = seen) -> None:
            seen[name] = values.copy()
            if name == "blk.1.l_out":
                values[3:] = 0.5

        with Runner(model_path("stories260K"), each, taps=names) as runner:
            plain, changed = runner.forward(TOKENS), runner.forward(TOKENS, tap=look)
        runs[each] = seen | {"changed": changed}
        np.testing.assert_array_equal(changed[:3], plain[:3])
        assert np.abs(changed[3:] - plain[3:]).max() > 0.1
    assert list(runs[device]) == list(runs["reference"])
    for name, want in runs["reference"].items():
        assert nmse(runs[device][name], want) < 1e-10


def test_patterns_are_shown_and_used(device: str, tmp_path: Path) -> None:
    path = variant_model("gemma3-windows", tmp_path / "m.gguf")
    name, runs = "blk.2.kqv_out.pattern", {}
    for each in ("reference", device):
        seen: list[Any] = []

        def first_only(_: str, pattern: Any, seen: list[Any] = seen) -> None:
            seen.append(pattern.copy())
            pattern[:] = 0
            pattern[..., 0] = 1

        with Runner(path, each, taps=[name]) as runner:
            runner.forward(TOKENS % 128)
            runs[each] = runner.forward(TOKENS % 128, 8, tap=first_only), seen[0]
    for got, want in zip(runs[device], runs["reference"], strict=True):
        assert nmse(got, want) < 1e-10


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 13])
def test_rows_between_classes(device: str, n: int) -> None:
    tokens = (np.arange(30) * 37 % 500).astype(np.int32)
    with Runner(model_path("stories260K"), device) as runner:
        whole = runner.forward(tokens)
        runner.program.max_tokens = n  # the driver cuts its input by it
        assert nmse(runner.forward(tokens), whole) < 1e-11


def test_half_precision_cache_is_near(device: str) -> None:
    with Runner(model_path("stories260K"), device) as runner:
        exact = runner.forward(TOKENS)
    for kv_dtype in ("f16", "bf16"):
        with Runner(model_path("stories260K"), device, kv_dtype=kv_dtype) as runner:
            assert 0 < nmse(runner.forward(TOKENS), exact) < 1e-3


def test_greedy_text_is_that_of_the_reference(device: str) -> None:
    texts = []
    for each in (device, "reference"):
        with jitllm.load(model_path("stories260K"), device=each, progress=False) as model:
            texts.append(model.generate("Once upon a time", max_tokens=24, temperature=0.0).text)
    assert texts[0] == texts[1]


@pytest.mark.slow
def test_greedy_text_of_smollm2(device: str) -> None:
    texts = []
    options: dict[str, Any] = {"precision": "exact", "progress": False}
    for each in (device, "cpu"):
        with jitllm.load(model_path("smollm2"), device=each, **options) as model:
            prompt = "Photosynthesis is the process by which"
            texts.append(model.generate(prompt, max_tokens=16, temperature=0.0).text)
    assert texts[0] == texts[1]


def test_refusals(device: str) -> None:
    with pytest.raises(TypeError, match="n_gpu_layers"):
        backends.open_backend(device, n_gpu_layers=3)
    with pytest.raises(ValueError, match="precision"):
        backends.open_backend(device, precision="double")
    backend, value = backends.open_backend(device), Value(0, "x", "O", 4)

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
    with pytest.raises(BackendUnavailable, match="bytes"):
        backend.new_pool(SPEC, 1 << 40, "f32")
    backend.close()


def test_tables_and_ids_are_checked(device: str) -> None:
    with Runner(model_path("stories260K"), device) as runner:
        plain = runner.forward(TOKENS)
        with pytest.raises(ValueError, match="token ids must be from 0 to 511"):
            runner.forward([512])
        for pages in ([0, 9], [-1], []):
            runner.tables = [np.array(pages, np.int32)]
            with pytest.raises(ValueError, match="cannot hold positions 0 to 7"):
                runner.forward(TOKENS)
        runner.tables = [np.array([3], np.int32)]
        np.testing.assert_array_equal(runner.forward(TOKENS), plain)


def test_opening_and_closing_leaves_nothing(device: str) -> None:
    def resident() -> int:
        gc.collect()
        pages = Path("/proc/self/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def once() -> None:
        with Runner(model_path("stories260K"), device) as runner:
            runner.forward(TOKENS)

    for _ in range(5):
        once()
    before, threads = resident(), len(os.listdir("/proc/self/task"))
    for _ in range(20):
        once()
    assert resident() - before < 8 << 20
    deadline = time.monotonic() + 10
    while len(os.listdir("/proc/self/task")) > threads and time.monotonic() < deadline:
        time.sleep(0.01)  # a thread that was joined may take a moment to end
    assert len(os.listdir("/proc/self/task")) <= threads


def test_the_largest_logits(device: str) -> None:
    """Of rows longer than what is sorted at a time, in any number, with equal and odd numbers."""
    rng, n = np.random.default_rng(3), 7000
    table = rng.standard_normal((5, n), np.float32)
    table[1], table[2, 1:] = np.round(table[1]), -np.inf
    table[3, [9, 4000, 6000]] = np.nan, np.inf, -np.nan
    x, rows, y = Value(0, "x", "T", n), Value(1, "rows", "O", n), Value(2, "y", "O", n)
    graph = Graph(
        (Node("embed", "x", (), (x,), ("table",)), Node("select_outputs", "rows", (x,), (rows,)),
         Node("scale", "y", (rows,), (y,), attrs={"factor": 1.0})), (), n,
    )  # fmt: skip
    backend = backends.open_backend(device)
    backend.add_weight(Weight("table", "F32", table.shape, table.view(np.uint8).reshape(-1)))
    program = backend.compile(graph, (), max_tokens=5, taps=frozenset())
    assert isinstance(program, GpuProgram)
    assert program.most_best == (0 if program.device.is_cpu else 128)
    for wanted in ([4], [0, 1, 2, 3, 4], [], [1, 3]):
        ids, positions = np.arange(5, dtype=np.int32), np.zeros(5, np.int32)
        segments = [Segment(i, 1, 0, ()) for i in range(5)]
        batch = Batch(ids, positions, np.array(wanted, np.int32), segments)
        logits = program.run(batch)
        for k in (1, 40, 64, 128):
            found, values = program.best(batch, k)
            assert (found.dtype.name, values.dtype.name) == ("int32", "float32")
            assert found.shape == values.shape == (len(wanted), k)
            for row, own, best in zip(logits, found, values, strict=True):
                is_nan = np.isnan(row)
                order = np.lexsort((-np.where(is_nan, 0, row), ~is_nan))[:k]
                np.testing.assert_array_equal(own, order)
                np.testing.assert_array_equal(best, row[order])
            for number, row in enumerate(logits):
                np.testing.assert_array_equal(program.logits(number), row)
    with pytest.raises(ValueError, match="tokens"):
        program.best(Batch(ids[:0], ids[:0], ids[:0], []), 1)
    backend.close()
