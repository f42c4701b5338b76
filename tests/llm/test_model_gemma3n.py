"""Gemma 3n against llama.cpp's logits; what its words and metadata must be."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from driver import devices
from logits import (
    MAX_NMSE,
    WRONG_NMSE,
    Files,
    change,
    written_once,
)
from variants.written_gemma import WRITTEN, error, written_gemma

from jitllm.backends.ir import Value
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.altup import match_rms, weighted_add
from jitllm.llm.graph.words.gaussian_top import gaussian_top
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.models.loading import open_model

NAMES = [name for name in WRITTEN if name.startswith("gemma3n")]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Path of a tiny model, written once."""
    return written_once(tmp_path_factory.mktemp("gemma3n"), written_gemma)


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_llama_cpp(files: Files, name: str, device: str) -> None:
    assert error(name, files(name), device) <= MAX_NMSE


WRONG = {
    "weights of a prediction": change("weighted_add", "predict.2", start=9),
    "weights of a correction": change("weighted_add", "l_out|correct", shift=0.0),
    "size of streams at the start": change("match_rms", "altup_proj", floor=1000.0),
    "size of streams at the end": change("match_rms", "altup_unembd_proj", floor=1e6),
    "gates left": change("gaussian_top", deviations=1.7),
    "scale of routers": change("scale", "router_scaled", factor=1 / 32),
    "scale of projected inputs": change("scale", "model_proj_scaled", factor=1e-4),
    "scale of inputs": change("scale", "token_embd_scaled", factor=8.0),
    "residual scale": change("scale", "ffn_inp", factor=0.75),
    "scale of attention": change("attention", scale=0.9),
    "window": change("attention", r"blk\.2\d\.", window=9),
    "rope of shared keys": change("rope", r"blk\.24\.", magnitude=0.9),
    "final cap": change("soft_cap", cap=25.0),
    "layer whose keys are read": change("attention", r"blk\.2[0-3]\.", layer=14),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_detail_is_seen(files: Files, what: str) -> None:
    assert error("gemma3n", files("gemma3n"), edit=WRONG[what]) > WRONG_NMSE


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("altup.num_inputs", 1, "expected two or more and a number below that, got 1 and 0"),
        ("altup.active_idx", 4, "got 4 and 4"),
        ("attention.shared_kv_layers", 22, "a layer of each kind before those.*got 22 of 25"),
        ("attention.shared_kv_layers", 26, "got 26 of 25 layers"),
    ],
)
def test_wrong_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: int, message: str
) -> None:
    metadata = WRITTEN["gemma3n"].metadata
    assert isinstance(metadata, dict)
    monkeypatch.setitem(metadata, key, value)
    path = written_gemma("gemma3n", tmp_path / "m.gguf")
    with GGUFFile(path) as file, pytest.raises(ModelFormatError, match=message):
        open_model(file, "reference")


class Info(NamedTuple):
    """A tensor of which only the shape is known."""

    shape: tuple[int, ...]


def _builder() -> tuple[GraphBuilder, Value, Value]:
    tensors = {"a": Info((5, 32)), "b": Info((5, 48))}
    g = GraphBuilder(tensors, lambda name: np.zeros(1, np.float32), 16)
    return g, g.embed("a", width=32, name="x"), g.embed("b", width=48, name="y")


def test_words_check_their_shapes() -> None:
    g, x, y = _builder()
    wrong: list[Any] = [([y], 0), ([x], -1), ([x] * 4, 29), ([], 0)]
    for sources, start in wrong:
        with pytest.raises(ValueError, match="w: columns"):
            weighted_add(g, x, sources, x, start=start, name="w")
    with pytest.raises(ValueError, match="in parts like"):
        match_rms(g, y, x, name="m")
    one = g.columns(x, 0, 1, name="one")
    with pytest.raises(ValueError, match="1 column has no deviation"):
        gaussian_top(g, one, 1.0, name="t")
