"""Rare forms of attention on the CPU: near the NumPy backend, and the same bits in any batch."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import Runner, nmse, simulate_cuda
from gpu_rows import few
from variants import variant_model

from jitllm.backends.base import Batch, Segment
from jitllm.backends.ir import Graph, Node

TOKENS = (np.arange(150) * 37 % 128).astype(np.int32)
ALONE = {"cache": -1, "layer": 0, "causal": False}
SLOPES = {"slopes": np.array([0.5, 0.1, 0.02, 0.2], np.float32)}
FORMS: dict[str, dict[str, Any]] = {
    "chunks": {"window": 70, "chunked": True},
    "slopes": SLOPES,
    "table": {"table": np.sin(np.arange(4 * 41, dtype=np.float32)).reshape(4, 41)},
    "alone": ALONE,
    "alone and near": {**ALONE, "window": 20},
    "alone with slopes": {**ALONE, **SLOPES},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two layers, two heads each."""
    return variant_model("qwen3", tmp_path_factory.mktemp("forms") / "m.gguf")


def _edit(form: dict[str, Any]) -> Callable[[Graph], Graph]:
    def changed(node: Node) -> Node:
        is_one = node.op == "attention"
        return dataclasses.replace(node, attrs={**node.attrs, **form}) if is_one else node

    def edit(graph: Graph) -> Graph:
        caches = () if form.get("cache") == -1 else graph.caches
        return dataclasses.replace(graph, nodes=tuple(map(changed, graph.nodes)), caches=caches)

    return edit


def _logits(model: Path, form: str, device: str, **options: Any) -> np.ndarray:
    with Runner(model, device, edit=_edit(FORMS[form]), max_tokens=150, **options) as runner:
        return runner.forward(TOKENS)


@pytest.mark.parametrize("form", FORMS)
def test_equal_to_the_reference(model: Path, form: str) -> None:
    want = _logits(model, form, "reference")
    assert nmse(_logits(model, form, "cpu", n_threads=2), want) < 1e-10
    with Runner(model, "reference", max_tokens=150) as runner:
        assert nmse(runner.forward(TOKENS), want) > 1e-5


@pytest.mark.parametrize("form", few([*FORMS], ["alone and near"]))
def test_simulated_tensor_cores(model: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_cuda(monkeypatch)
    error = nmse(_logits(model, form, "cuda", precision="fast"), _logits(model, form, "reference"))
    assert 1e-10 < error < 1e-6  # float16 was used


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_one_run_needs_no_cache(model: Path, device: str) -> None:
    whole = []
    for edit in (_edit({**ALONE, "causal": True}), lambda graph: graph):
        with Runner(model, device, edit=edit, max_tokens=150) as runner:
            whole.append(runner.forward(TOKENS))
    assert np.array_equal(whole[0], whole[1])


@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_sequences_without_cache_do_not_see_each_other(model: Path, precision: str) -> None:
    parts = [slice(0, 70), slice(70, 71), slice(71, 150)]
    with Runner(model, "cpu", precision, edit=_edit(ALONE), max_tokens=150) as runner:
        single = [runner.forward(TOKENS[part]) for part in parts]
        positions = np.concatenate([np.arange(p.stop - p.start) for p in parts]).astype(np.int32)
        segments = [Segment(p.start, p.stop - p.start, 0, []) for p in parts]
        rows = np.arange(150, dtype=np.int32)
        both = runner.program.run(Batch(TOKENS, positions, rows, segments))
    assert np.array_equal(both, np.concatenate(single))


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("form", ["alone and near", "chunks", "slopes"])
def test_probabilities_of_a_form(model: Path, form: str, device: str) -> None:
    seen: list[np.ndarray] = []
    name = "blk.1.kqv_out.pattern"
    with Runner(model, device, edit=_edit(FORMS[form]), max_tokens=150, taps=[name]) as runner:
        runner.forward(TOKENS, tap=lambda tap, values: seen.append(values.copy()))
    (pattern,) = seen
    np.testing.assert_allclose(pattern.sum(-1), 1, rtol=1e-5)
    key, query = np.arange(150), np.arange(150)[:, None]
    visible = {
        "alone and near": abs(query - key) <= 10,
        "chunks": (key <= query) & (key // 70 == query // 70),
        "slopes": key <= query,
    }[form]
    np.testing.assert_array_equal(pattern > 0, np.broadcast_to(visible, pattern.shape))


def _second_reads_first(graph: Graph) -> Graph:
    first, second = (node for node in graph.nodes if node.op == "attention")
    attrs = {**second.attrs, "layer": first.attrs["layer"]}
    shared = dataclasses.replace(second, inputs=second.inputs[:1], attrs=attrs)
    nodes = tuple(shared if node is second else node for node in graph.nodes)
    spec = dataclasses.replace(graph.caches[0], layers=graph.caches[0].layers[:1])
    return dataclasses.replace(graph, nodes=nodes, caches=(spec,))


def test_a_layer_reads_the_keys_of_another(model: Path) -> None:
    logits = {}
    for device in ("cpu", "reference"):
        with Runner(model, device, edit=_second_reads_first, max_tokens=100) as runner:
            logits[device] = runner.forward(TOKENS)
    assert nmse(logits["cpu"], logits["reference"]) < 1e-10
    with Runner(model, "reference") as runner:
        assert nmse(runner.forward(TOKENS), logits["reference"]) > 1e-5
