"""Words of the dense decoders: what they check, and positions beyond those of one run."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from driver import Runner, devices
from quantized import quantized_copy
from variants import variant_model

from jitllm.backends.ir import Value
from jitllm.llm.errors import ContextLengthExceeded, GGUFError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.clamp import clamp
from jitllm.llm.graph.words.embed_positions import embed_positions
from jitllm.llm.graph.words.head_layer_norm import head_layer_norm
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.models.loading import open_model


class Info(NamedTuple):
    """A tensor of which only the shape is known."""

    shape: tuple[int, ...]


def _builder(n_ctx: int = 256) -> tuple[GraphBuilder, Value]:
    tensors = {"table": Info((5, 8)), "positions": Info((256, 8))}
    g = GraphBuilder(tensors, lambda name: np.zeros(1, np.float32), n_ctx)
    return g, g.embed("table", width=8, name="start")


def test_learned_positions_bound_the_context() -> None:
    g, _ = _builder()
    assert embed_positions(g, "positions", width=8, name="p").width == 8
    with pytest.raises(GGUFError, match=r"'positions': expected shape \(any, 9\)"):
        embed_positions(g, "positions", width=9, name="q")
    g, _ = _builder(257)
    with pytest.raises(ContextLengthExceeded, match="at most 256 tokens.*got 257"):
        embed_positions(g, "positions", width=8, name="p")


def test_words_check_their_numbers() -> None:
    g, x = _builder()
    with pytest.raises(ValueError, match="c: expected a positive bound, got 0"):
        clamp(g, x, 0.0, name="c")
    with pytest.raises(ValueError, match="n: 3 heads do not divide 8 columns"):
        head_layer_norm(g, x, n_heads=3, eps=1e-5, name="n")


def test_a_context_longer_than_the_learned_positions(tmp_path: Path) -> None:
    path = variant_model("gpt2", tmp_path / "m.gguf")
    with GGUFFile(path) as file, pytest.raises(ContextLengthExceeded, match="at most 256"):
        open_model(file, "reference", n_ctx=300)


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_learned_positions_are_those_of_the_tokens(tmp_path: Path, device: str, kind: str) -> None:
    path: Any = variant_model("gpt2", tmp_path / "m.gguf")
    if kind != "F32":
        path = quantized_copy(path, tmp_path / "q.gguf", kind)
    seen: list[np.ndarray] = []
    with Runner(path, device, taps=["position_embd"]) as runner:
        for ids, n_past in (([3, 4, 5], 0), ([6], 3), ([7, 8], 200)):
            runner.forward(ids, n_past, lambda name, values: seen.append(values.copy()))
    with GGUFFile(tmp_path / "m.gguf") as file:
        table = file.data("position_embd.weight").view(np.float32).reshape(256, 256)
    atol = 0 if kind == "F32" else 3e-3
    np.testing.assert_allclose(np.concatenate(seen), table[[0, 1, 2, 3, 200, 201]], atol=atol)
