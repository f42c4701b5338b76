"""The NumPy backend: pools, taps, page tables, and what it refuses."""

import inspect
import re
from pathlib import Path
from typing import Any

import gguf
import gguf.quants
import numpy as np
import pytest
from driver import Runner
from models import model_path
from variants import variant_model

from jitllm import backends
from jitllm.backends import reference
from jitllm.backends.base import BackendUnavailable, Batch, Segment, Weight
from jitllm.backends.ir import CacheSpec, Graph, Node, Value
from jitllm.llm.graph import builder

TOKENS = np.array([1, 20, 300, 45, 7, 99, 250, 301], np.int32)
SPEC = CacheSpec(0, ((2, 4, 6), (1, 8, 8)))


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with windows of 8."""
    folder = tmp_path_factory.mktemp("models")
    return variant_model("gemma3-windows", folder / "gemma3-windows.gguf")


def open_reference(**options: Any) -> Any:
    """The backend under test."""
    return backends.open_backend("reference", **options)


@pytest.mark.parametrize(("kv_dtype", "size"), [("f16", 2), ("f32", 4)])
def test_pool_keeps_pages(kv_dtype: str, size: int) -> None:
    backend = open_reference()
    pool = backend.new_pool(SPEC, 3, kv_dtype)
    assert pool.page_bytes == 64 * (2 * (4 + 6) + 8 + 8) * size
    rng = np.random.default_rng(1)
    keys = rng.integers(-9, 9, (64, 8)).astype(np.float32)
    values = rng.integers(-9, 9, (64, 12)).astype(np.float32)
    pool.write(0, 1, keys, values)
    pool.copy_page(1, 2)
    for page, expected in ((1, (keys, values)), (2, (keys, values))):
        for got, want in zip(pool.read(0, page), expected, strict=True):
            np.testing.assert_array_equal(got, want)
    assert not pool.read(0, 0)[0].any()
    assert not pool.read(1, 2)[0].any()
    assert backend.memory()["caches"] == 3 * pool.page_bytes
    backend.close()
    assert backend.memory() == {"weights": 0, "caches": 0, "buffers": 0}


def test_tap_sees_and_changes_values() -> None:
    seen: dict[str, Any] = {}
    names = ["blk.1.l_out", "blk.0.attn_q", "output"]

    def look(name: str, values: Any) -> None:
        seen[name] = values.copy()
        if name == "blk.1.l_out":
            values[3:] = 0

    with Runner(model_path("stories260K"), taps=names) as runner:
        plain = runner.forward(TOKENS)
        changed = runner.forward(TOKENS, tap=look)
    assert list(seen) == ["blk.0.attn_q", "blk.1.l_out", "output"]
    assert seen["blk.1.l_out"].shape == (8, 64)
    np.testing.assert_array_equal(changed[:3], plain[:3])
    assert np.abs(changed[3:] - plain[3:]).max() > 0.1
    np.testing.assert_array_equal(seen["output"], changed)


def test_tap_of_the_embeddings_leaves_the_weights_alone() -> None:
    def spoil(name: str, values: Any) -> None:
        values[:] = 7

    with Runner(model_path("stories260K"), taps=["token_embd"]) as runner:
        plain = runner.forward(TOKENS)
        runner.forward(TOKENS, tap=spoil)
        np.testing.assert_array_equal(runner.forward(TOKENS), plain)


def test_pattern_is_a_distribution_over_the_past(windowed: Path) -> None:
    patterns: dict[str, Any] = {}
    names = ["blk.0.kqv_out.pattern", "blk.2.kqv_out.pattern"]
    tokens = np.arange(20, dtype=np.int32)
    with Runner(windowed, taps=names) as runner:
        runner.forward(tokens[:15])
        runner.forward(tokens[15:], 15, tap=lambda name, p: patterns.update({name: p.copy()}))
    for name, window in zip(names, (8, 20), strict=True):
        pattern = patterns[name]
        assert pattern.shape == (2, 5, 20)
        np.testing.assert_allclose(pattern.sum(axis=-1), 1, rtol=1e-6)
        distance = np.arange(15, 20)[:, None] - np.arange(20)
        allowed = (distance >= 0) & (distance < window)
        assert np.all((pattern > 0) == allowed)


def test_a_changed_pattern_is_used() -> None:
    def first_only(name: str, pattern: Any) -> None:
        pattern[:] = 0
        pattern[..., 0] = 1

    z: dict[str, Any] = {}

    def tap(name: str, values: Any) -> None:
        if name.endswith(".pattern"):
            first_only(name, values)
        else:
            z[name] = values.copy()

    names = ["blk.0.attn_v", "blk.0.kqv_out", "blk.0.kqv_out.pattern"]
    with Runner(model_path("stories260K"), taps=names) as runner:
        runner.forward(TOKENS, tap=tap)
    first = np.repeat(z["blk.0.attn_v"][0].reshape(4, 1, 8), 2, axis=1).reshape(-1)
    np.testing.assert_allclose(z["blk.0.kqv_out"], np.tile(first, (8, 1)), rtol=1e-6)


def test_sequences_in_one_batch_do_not_meet() -> None:
    with Runner(model_path("stories260K"), n_ctx=256) as runner:
        alone = runner.forward(TOKENS)
        tables = [[np.array([2, 0], np.int32)], [np.array([3, 1], np.int32)]]
        n = len(TOKENS)
        both = Batch(
            np.tile(TOKENS, 2),
            np.tile(np.arange(n, dtype=np.int32), 2),
            np.array([n - 1, n, 2 * n - 1], np.int32),
            [Segment(0, n, 0, tables[0]), Segment(n, n, 0, tables[1])],
        )
        got = runner.program.run(both)
    np.testing.assert_allclose(got, alone[[-1, 0, -1]], rtol=1e-5, atol=1e-5)


def test_a_window_needs_few_pages(windowed: Path) -> None:
    tokens = np.random.default_rng(0).integers(0, 128, 200).astype(np.int32)
    with Runner(windowed, max_tokens=50) as runner:
        whole = runner.forward(tokens)
        ring = next(c for c, spec in enumerate(runner.graph.caches) if spec.window)
        runner.tables[ring] = np.array([3], np.int32)  # 64 cells: 50 rows and a window of 8
        np.testing.assert_allclose(runner.forward(tokens), whole, rtol=1e-5, atol=1e-5)
        runner.tables[1 - ring] = np.array([0], np.int32)
        with pytest.raises(ValueError, match=r"1 pages.*cannot hold positions 0 to 99"):
            runner.forward(tokens)


def test_half_precision_cache_is_near() -> None:
    with Runner(model_path("stories260K")) as runner:
        exact = runner.forward(TOKENS)
    with Runner(model_path("stories260K"), kv_dtype="f16") as runner:
        half = runner.forward(TOKENS)
    assert 0 < np.abs(half - exact).max() < 0.05


@pytest.mark.parametrize("type_name", ["F32", "Q8_0"])
def test_fast_precision_rounds_what_meets_quantized_weights(type_name: str) -> None:
    weights = np.random.default_rng(0).standard_normal((5, 64), dtype=np.float32)
    data = gguf.quants.quantize(weights, gguf.GGMLQuantizationType[type_name])
    rows, y = Value(0, "rows", "O", 64), Value(1, "y", "O", 5)
    nodes = (
        Node("embed", "rows", (), (rows,), ("w",)),
        Node("matmul", "y", (rows,), (y,), ("w", "")),
    )
    results = []
    for precision in ("fast", "exact"):
        backend = open_reference(precision=precision)
        backend.add_weight(Weight("w", type_name, (5, 64), data.view(np.uint8)))
        program = backend.compile(Graph(nodes, (), 5), [], max_tokens=5, taps=frozenset())
        ids = np.arange(5, dtype=np.int32)
        results.append(program.run(Batch(ids, ids, ids, [])))
    fast, exact = results
    np.testing.assert_allclose(fast, exact, atol=0.5)
    assert (type_name == "F32") == bool(np.all(fast == exact))


def test_too_many_tokens() -> None:
    with Runner(model_path("stories260K"), max_tokens=4) as runner:
        runner.program.max_tokens = 8  # the driver's cut, not the backend's check
        runner.program = runner.backend.compile(
            runner.graph, runner.pools, max_tokens=4, taps=frozenset()
        )
        rows = np.arange(8, dtype=np.int32)
        with pytest.raises(ValueError, match="at most 4 tokens, got 8"):
            runner.program.run(Batch(TOKENS, rows, rows, [Segment(0, 8, 0, runner.tables)]))


def test_every_documented_operation_is_there() -> None:
    table = (builder.__doc__ or "").split("====\n")[2]
    documented = {line.split()[0] for line in table.splitlines() if line[0] not in " ="}
    assert documented >= set(reference._OPS)
    for op in documented:
        assert callable(reference._operation(op))
    words = set(re.findall(r'self\.node\(\s*"(\w+)"', inspect.getsource(builder)))
    assert words <= documented


def test_refusals() -> None:
    with pytest.raises(ValueError, match="precision"):
        open_reference(precision="double")
    with pytest.raises(TypeError, match="n_gpu_layers"):
        open_reference(n_gpu_layers=3)
    backend = open_reference()
    with pytest.raises(ValueError, match="q8_0 needs heads"):
        backend.new_pool(SPEC, 1, "q8_0")
    with pytest.raises(BackendUnavailable, match="no type I32"):
        backend.add_weight(Weight("w", "I32", (4,), np.zeros(16, np.uint8)))


def test_compile_checks_the_graph() -> None:
    backend = open_reference()
    value = Value(0, "x", "O", 4)

    def compile(node: Node, pools: Any = (), taps: frozenset[str] = frozenset()) -> None:
        backend.compile(Graph((node,), (), 4), pools, max_tokens=1, taps=taps)

    with pytest.raises(BackendUnavailable, match="no operation 'magic'"):
        compile(Node("magic", "x", (), (value,)))
    with pytest.raises(ValueError, match=r"node 'x': weights \['w'\] were not added"):
        compile(Node("embed", "x", (), (value,), ("w",)))
    node = Node("select_outputs", "x", (value,), (value,))
    with pytest.raises(ValueError, match="no such hook points.*nothing"):
        compile(node, taps=frozenset({"nothing"}))
    with pytest.raises(ValueError, match="expected pools"):
        compile(node, pools=[backend.new_pool(SPEC, 1, "f32")])


def test_weights_are_copied_and_released() -> None:
    backend, released = open_reference(), []
    data = np.arange(16, dtype=np.uint8)
    backend.add_weight(Weight("w", "F32", (4,), data, lambda: released.append("w")))
    before = backend.vector("w").copy()
    data[:] = 0
    np.testing.assert_array_equal(backend.vector("w"), before)
    assert released == ["w"] and backend.memory()["weights"] == 16
