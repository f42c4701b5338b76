"""Sums of squares of what experts read, on GPUs: those of the twins, run after run."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from driver import opens, simulate_cuda
from op_cases import CASES, K, V, graph_of, weight_of

from jitllm import backends
from jitllm.backends.base import Batch, Segment
from jitllm.backends.ir import Graph
from jitllm.llm.graph.rewrite import open_experts

NAMES = ("experts", "experts, input weighed", "experts, fused", "experts without gate")


def _opened(name: str) -> tuple[Graph, list[Any]]:
    """Return a graph whose experts are watched, and the arrays; a fused stack has one entry."""
    graph, arrays = graph_of(CASES[name]), []

    def of(weight: str) -> Any:
        if not weight:
            return None
        n, _, width = weight_of(weight).shape
        room = np.zeros((n, -(-width // 16) * 16), np.float32)
        arrays.append((room[:, :width], np.zeros(n, np.int32)))
        return arrays[-1]

    nodes = tuple(
        open_experts(node, squares=tuple(map(of, node.weights[:3])))
        if node.op == "experts" else node for node in graph.nodes
    )  # fmt: skip
    return replace(graph, nodes=nodes), arrays


def _measured(name: str, device: str, rows: tuple[int, ...]) -> list[Any]:
    graph, arrays = _opened(name)
    backend = backends.open_backend(device, precision="exact")
    try:
        for weight in {name for node in graph.nodes for name in node.weights if name}:
            backend.add_weight(weight_of(weight))
        backend.new_states((), 1)
        program = backend.compile(graph, (), max_tokens=40, taps=frozenset())
        for n in rows:
            numbers = np.arange(n, dtype=np.int32)
            hidden = np.zeros((n, 1), np.float32)
            segment = Segment(0, n, 0, [])
            program.run(Batch(numbers * 7 % V, numbers, numbers[:1], [segment], hidden))
        program.close()
    finally:
        backend.close()
    return arrays


@pytest.mark.parametrize("name, device", [
    pytest.param(name, device, marks=() if device == "vulkan" or name + device == "expertscuda"
                 else pytest.mark.slow)
    for name in NAMES for device in ("cuda", "metal", "vulkan")
])  # fmt: skip
def test_sums_of_squares(name: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_cuda(monkeypatch)
    if not opens(device):
        pytest.skip(f"no device for {device} here")
    runs = 37, 1, 20
    found, expected = (_measured(name, where, runs) for where in (device, "reference"))
    assert len(found) == len(expected) > 1
    for (sums, counts), (want, n) in zip(found, expected, strict=True):
        assert np.array_equal(counts, n) and n.sum() == K * sum(runs)
        np.testing.assert_allclose(sums, want, rtol=1e-6, atol=1e-6 * want.max())
