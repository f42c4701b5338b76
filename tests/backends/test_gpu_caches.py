"""Caches of quantized types on GPUs: cells have the bits of the twins, and attention reads them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import Runner, nmse, opens, simulate_cuda
from models import model_path
from tiny import conformance_model

import jitllm
from jitllm import backends
from jitllm.backends.base import Batch, Segment, Weight
from jitllm.backends.ir import Graph
from jitllm.kernels import cache_types
from jitllm.llm.graph.builder import GraphBuilder

VOCAB, GROUP = 40, 2  # embeddings, query heads of a key head
Sizes = tuple[int, int, int]
KINDS = ["q8_0/iq4_nl", "q5_1/q4_0", "q5_0/q4_1", "q8_0/f16", "bf16/q4_1"]
# Heads of an odd number of blocks, not rotated; rotated, keys as a whole; values by parts.
SIZES = [(1, 96, 96), (2, 128, 64), (3, 32, 192)]


@pytest.fixture(params=[
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("cuda", "metal")), "vulkan"
])  # fmt: skip
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a GPU backend."""
    simulate_cuda(monkeypatch)
    name: str = request.param
    if not opens(name):
        pytest.skip(f"no device for {name} here")
    return name


def _tensors(sizes: Sizes) -> dict[str, Any]:
    rng, (heads, dk, dv) = np.random.default_rng(0), sizes
    widths = {"q": GROUP * heads * dk, "k": heads * dk, "v": heads * dv}
    tensors = {name: rng.standard_normal((VOCAB, n), np.float32) for name, n in widths.items()}
    for x in (tensors["k"], tensors["v"]):
        x[1], x[2] = 0, x[2] * np.float32(1e-6)  # blocks that have no scale, or a very small one
        x[3, ::7] *= 50
    return tensors | {"sinks": rng.standard_normal(GROUP * heads, np.float32)}


def _graph(sizes: Sizes, tensors: dict[str, Any], **form: Any) -> Graph:
    heads, dk, dv = sizes
    g = GraphBuilder(tensors, tensors.__getitem__, 192)
    q, k, v = (g.embed(name, width=tensors[name].shape[1], name=name) for name in "qkv")
    y = g.attention(
        q, k, v, n_heads=GROUP * heads, n_kv_heads=heads, scale=0.5 / dk**0.5, name="y",
        **{"window": 70, **form},
    )  # fmt: skip
    g.select_outputs(y, name="outputs")
    return g.build()


def _run(sizes: Sizes, device: str, kv_dtype: str, **form: Any) -> tuple[Any, Any]:
    """Return heads of two runs, one sequence and then more of it beside another; and all pages."""
    tensors = _tensors(sizes)
    graph = _graph(sizes, tensors, **form)
    backend = backends.open_backend(device, precision="exact")
    try:
        for name, x in tensors.items():
            backend.add_weight(Weight(name, "F32", x.shape, x.view(np.uint8).reshape(-1)))
        (pool,) = pools = [backend.new_pool(spec, 3, kv_dtype) for spec in graph.caches]
        program = backend.compile(graph, pools, max_tokens=80, taps=frozenset())
        tables = [[np.array(pages, np.int32)] for pages in ([2, 0], [1])]
        one, two = Segment(0, 70, 0, tables[0]), Segment(0, 6, 70, tables[0])
        runs = [program.run(_batch([one])), program.run(_batch([two, Segment(6, 5, 0, tables[1])]))]
        pages = np.empty((3, 64 * pool.cell_bytes(0)), np.uint8)
        for page, out in enumerate(pages):
            pool.read_cells(0, page, 0, 64, out)
        return np.concatenate(runs), pages
    finally:
        backend.close()


def _batch(segments: list[Segment]) -> Batch:
    positions = np.concatenate([np.arange(s.rows) + s.position for s in segments])
    rows = np.arange(len(positions), dtype=np.int32)
    return Batch(rows * 7 % VOCAB, positions.astype(np.int32), rows, segments)


def _check(sizes: Sizes, device: str, kv_dtype: str, **form: Any) -> None:
    want, expected = _run(sizes, "reference", kv_dtype, **form)
    got, pages = _run(sizes, device, kv_dtype, **form)
    np.testing.assert_array_equal(pages, expected)
    assert nmse(got, want) < 1e-11


@pytest.mark.parametrize("sizes", SIZES)
def test_cells_and_attention(device: str, sizes: Sizes) -> None:
    _check(sizes, device, KINDS[sum(sizes) % 3])


@pytest.mark.parametrize("form", [
    {"chunked": True}, {"soft_cap": 2.0, "window": 0}, {"sinks": "sinks", "causal": False},
    {"max_alibi_bias": 8.0, "window": 0},
], ids=lambda form: next(iter(form)))  # fmt: skip
def test_forms_of_attention(device: str, form: dict[str, Any]) -> None:
    _check((1, 64, 32), device, "q8_0/q5_0", **form)


@pytest.mark.slow
@pytest.mark.parametrize("kv_dtype", [*KINDS, *cache_types.QUANTIZED])
@pytest.mark.parametrize("sizes", [*SIZES, (1, 1024, 512), (2, 576, 32)])
def test_cells_and_attention_of_every_type(device: str, sizes: Sizes, kv_dtype: str) -> None:
    _check(sizes, device, kv_dtype)


def _check_states(path: Path, tmp_path: Path, device: str, kv_dtype: str) -> None:
    """Cells of one device come to the other as they are; what follows is near."""
    tokens = [int(t) for t in 3 + np.arange(90) * 37 % 100]
    options: dict[str, Any] = {"kv_dtype": kv_dtype, "precision": "exact", "n_ctx": 128}
    for one, other in ((device, "cpu"), ("cpu", device)):
        file = tmp_path / f"{one}.state"
        with (
            jitllm.load(path, device=one, progress=False, **options) as model,
            model.sequence(tokens) as sequence,
        ):
            sequence.save(file)
            cells = [np.array(x) for x in (sequence.kv[1].k, sequence.kv[1].v)]
            logits = sequence.append([7]).logits.copy()
        with (
            jitllm.load(path, device=other, progress=False, **options) as model,
            model.load_sequence(file) as sequence,
        ):
            assert sequence.n_pending <= 1
            for got, want in zip((sequence.kv[1].k, sequence.kv[1].v), cells, strict=True):
                np.testing.assert_array_equal(got, want)
            assert nmse(sequence.append([7]).logits, logits) <= 1e-6


@pytest.mark.parametrize("kv_dtype", ["q8_0", pytest.param("q5_1/iq4_nl", marks=pytest.mark.slow)])
def test_states_go_to_the_cpu_and_back(device: str, tmp_path: Path, kv_dtype: str) -> None:
    path = conformance_model("llama-dense.gqa", tmp_path / "m.gguf")
    _check_states(path, tmp_path, device, kv_dtype)


@pytest.mark.slow
@pytest.mark.parametrize("kv_dtype", ["q8_0", "q5_1/q4_0"])
def test_smollm2(device: str, tmp_path: Path, kv_dtype: str) -> None:
    tokens, logits = (3 + np.arange(40) * 37 % 500).astype(np.int32), []
    for each in (device, "cpu"):
        with Runner(model_path("smollm2"), each, kv_dtype=kv_dtype, max_tokens=32) as runner:
            logits.append(np.concatenate([runner.forward(tokens[:33]),
                                          runner.forward(tokens[33:], 33)]))  # fmt: skip
    assert nmse(*logits) <= 1e-3  # near numbers may get different codes
    _check_states(model_path("smollm2"), tmp_path, device, kv_dtype)
