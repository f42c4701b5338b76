"""Embeddings of n-grams on Vulkan and Metal: rows of tables of tensor types, with states."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from driver import opens
from numpy.typing import NDArray

from jitllm import backends
from jitllm.backends.base import Batch, Segment, Weight
from jitllm.backends.ir import Graph
from jitllm.kernels import formats
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.ngram import ngram_embed

N_ROWS, WIDTH, VOCAB, END = 188, 2304, 40, 7  # a row takes two workgroups
RULES: dict[str, Any] = {
    "multipliers": np.array([2**63 + 5, 2**61 - 1, 12345678901234567], np.uint64),
    "sizes": np.array([50, 37, 41, 60], np.int64), "offsets": np.array([0, 50, 87, 128], np.int64),
}  # fmt: skip
TOKENS = np.random.default_rng(1).integers(0, VOCAB, 30).astype(np.int32)
TOKENS[[4, 11, 12]] = END
_table = np.random.default_rng(2).standard_normal((N_ROWS, WIDTH), np.float32)


def _weight(type_name: str) -> Weight:
    data = formats.quantize(type_name, _table).reshape(-1).view(np.uint8)
    return Weight("table", type_name, _table.shape, data)


def _graph() -> Graph:
    g = GraphBuilder({"table": SimpleNamespace(shape=_table.shape)}, lambda name: _table, 256)
    y = ngram_embed(g, "table", **RULES, end=END, width=WIDTH, name="y")
    g.select_outputs(y, name="rows")
    return g.build()


def _rows(device: str, type_name: str, pieces: list[int]) -> NDArray[np.float32]:
    backend, graph = backends.open_backend(device, precision="exact"), _graph()
    backend.add_weight(_weight(type_name))
    backend.new_states(graph.states, 2)
    program = backend.compile(graph, [], max_tokens=len(TOKENS), taps=frozenset())
    parts, start, slot = [], 0, -1
    for n in pieces:
        rows = np.arange(n, dtype=np.int32)
        other = int(slot == 0)
        segment = Segment(0, n, start, [], slot, other)
        batch = Batch(TOKENS[start : start + n], rows + np.int32(start), rows, [segment])
        parts.append(program.run(batch).copy())
        start, slot = start + n, other
    program.close()
    backend.close()
    return np.concatenate(parts)


@pytest.mark.parametrize("device", ["vulkan", "metal"])
@pytest.mark.parametrize("type_name", ["F16", "Q4_0", "Q5_K"])
def test_rows_of_hashes(device: str, type_name: str) -> None:
    if not opens(device):
        pytest.skip(f"no device for {device} here")
    want = _rows("reference", type_name, [30])
    np.testing.assert_allclose(_rows(device, type_name, [1, 12, 1, 16]), want, rtol=1e-5, atol=1e-6)
