"""Gemma 4 against llama.cpp's logits, with and without experts, inputs of layers, shared keys."""

from pathlib import Path

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
from variants.written_gemma import VOCAB, WRITTEN, error, written_gemma

from jitllm.llm.errors import GGUFError
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.models.loading import open_model

NAMES = [name for name in WRITTEN if name.startswith("gemma4")]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Path of a tiny model, written once."""
    return written_once(tmp_path_factory.mktemp("gemma4"), written_gemma)


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_llama_cpp(files: Files, name: str, device: str) -> None:
    assert error(name, files(name), device) <= MAX_NMSE


_NO_SCALES = np.ones(6, np.float32)
WRONG = {
    "factor of a layer": ("gemma4", change("scale", r"blk\.3\.l_out", factor=1.0)),
    "final cap": ("gemma4", change("soft_cap", cap=6.0)),
    "window": ("gemma4", change("attention", r"blk\.6\.", window=9)),
    "layer whose keys are read": ("gemma4", change("attention", r"blk\.6\.", layer=2)),
    "epsilon of values' norms": ("gemma4", change("rms_norm", "attn_v_norm", eps=0.1)),
    "scale of attention": ("gemma4.all", change("attention", scale=0.9)),
    "scale of inputs": ("gemma4.all", change("scale", "token_embd_scaled", factor=8.0)),
    "norm of projected inputs": ("gemma4.all", change("rms_norm", "per_layer_proj", eps=0.3)),
    "cap without a key": ("gemma4.keys_are_values", change("soft_cap", cap=25.0)),
    "router's input": ("gemma4.experts", change("scale", "router_in", factor=0.2)),
    "experts used": ("gemma4.experts", change("experts", k=3)),
    "activation of experts": ("gemma4.experts", change("experts", act="silu")),
    "scales of experts": ("gemma4.experts", change("experts", scales=(None, None, _NO_SCALES))),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_detail_is_seen(files: Files, what: str) -> None:
    name, edit = WRONG[what]
    assert error(name, files(name), edit=edit) > WRONG_NMSE


def test_every_token_has_inputs_of_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    single = WRITTEN["gemma4"].single
    monkeypatch.setitem(single, "per_layer_token_embd.weight", (VOCAB - 1, 8 * 32))
    path = written_gemma("gemma4", tmp_path / "m.gguf")
    message = r"per_layer_token_embd.*\(128, 256\), got \(127, 256\)"
    with GGUFFile(path) as file, pytest.raises(GGUFError, match=message):
        open_model(file, "reference")
