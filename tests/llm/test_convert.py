"""Converted files: every key, value and tensor is as llama.cpp's converter has it."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conversions.folder import write_safetensors
from conversions.reference import (
    FAMILIES,
    FOLDERS,
    PRE_FAMILIES,
    TYPES,
    describe,
    make_folder,
    pre_digest,
    recorded,
    recorded_defaults,
    recorded_pre,
)

from jitllm.llm import convert as families
from jitllm.llm.convert import _bpe as bpe
from jitllm.llm.convert._source import Source
from jitllm.llm.convert.api import convert
from jitllm.llm.errors import UnsupportedTokenizer
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.tokenizer import Tokenizer

# Values that transformers 5 has under other names, or not at all
_OWN_NAMES = {
    *("full_attention_interval", "global_attn_every_n_layers", "global_rope_theta"),
    *("local_rope_theta", "max_trained_positions", "rope_local_base_freq", "rotary_pct"),
    *("sliding_window_pattern", "type_vocab_size"),
}
# Scores of tokenizer.json's BPE are all -1000 there, which merges in any order
_OTHERWISE = {"llama-metaspace": {"tokenizer.ggml.scores"}}
# The two other types are made in the same way for all: a few folders, one of each type of weights
_EVERY_TYPE = ("llama", "llama-2", "llama-metaspace", "mamba2-original", "qwen35moe")
_CASES = [
    (family, kind)
    for family in FAMILIES
    for kind in TYPES
    if kind in ("f32", "q8_0") or family in _EVERY_TYPE
]


@pytest.mark.parametrize(("family", "kind"), _CASES)
def test_converted_as_by_the_reference(family: str, kind: str, tmp_path: Path) -> None:
    folder = make_folder(family, tmp_path)
    metadata, tensors = recorded(family, kind)
    made = convert(folder, tmp_path / "made.gguf", kind, pre=_pre(family), progress=False)
    made_metadata, made_tensors = describe(made.path)
    assert _differences(made_metadata, metadata) == _OTHERWISE.get(family, set())
    assert _differences(made_tensors, tensors) == set()


def _pre(family: str) -> str:
    return str(recorded(family, "f32")[0]["tokenizer.ggml.pre"][1])


def _differences(made: dict[str, Any], expected: dict[str, Any]) -> set[str]:
    return {k for k in made.keys() | expected.keys() if made.get(k) != expected.get(k)}


def test_every_family_is_compared() -> None:
    types = {folder.config.get("model_type", "mamba2") for folder in FOLDERS.values()}
    assert {str(kind).replace("-", "_") for kind in types} == set(families.names())


@pytest.mark.parametrize("kind", sorted(recorded_defaults()))
def test_absent_values_are_those_of_transformers(kind: str) -> None:
    ours, theirs = families.get(kind).DEFAULTS, recorded_defaults()[kind]
    assert {name: ours[name] for name in theirs} == theirs
    assert not [n for n in ours.keys() - theirs.keys() if n not in _OWN_NAMES]


def test_scores_merge_as_the_tokenizer_does(tmp_path: Path) -> None:
    folder = make_folder("llama-metaspace", tmp_path)
    made = convert(folder, tmp_path / "made.gguf", "f16", progress=False)
    theirs = bpe.open_tokenizer(Source(folder))
    with GGUFFile(made.path) as file:
        ours = Tokenizer.from_metadata(file.metadata)
    assert ours is not None
    for text in ("the theory in a there", "hinher  the", "a\nthe é"):
        assert ours.encode(text) == theirs.encode(text).ids, text


@pytest.mark.parametrize("family", PRE_FAMILIES)
def test_way_to_cut_text_is_known_by_the_same_hash(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"text": bpe._known()["text"], "names": {recorded_pre()["hashes"][family]: "found"}}
    monkeypatch.setattr(bpe, "_known", lambda: known)
    source = Source(make_folder(family, tmp_path))
    assert bpe.pre_name(source, bpe.open_tokenizer(source)) == "found"


def test_table_of_hashes_is_that_of_the_reference() -> None:
    known = bpe._known()
    assert {k: pre_digest(known[k]) for k in ("text", "names")} == {
        k: recorded_pre()[k] for k in ("text", "names")
    }


def test_unknown_way_to_cut_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedTokenizer, match="--pre"):
        convert(make_folder("qwen2", tmp_path), tmp_path / "made.gguf", progress=False)
    assert not (tmp_path / "made.gguf").exists()


@pytest.mark.parametrize(
    ("family", "expected"), [("llama", "BF16"), ("llama-2", "F16"), ("olmo2", "F16")]
)
def test_type_of_matrices_is_that_of_the_weights(
    family: str, expected: str, tmp_path: Path
) -> None:
    folder = make_folder(family, tmp_path)
    made = convert(folder, pre=_pre(family), progress=False)
    assert (made.outtype, made.path) == (expected, folder / f"{folder.name}-{expected}.gguf")
    tensors = {tensor.name: tensor.type_name for tensor in made.tensors}
    assert (tensors["blk.0.attn_q.weight"], tensors["output_norm.weight"]) == (expected, "F32")


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    folder = make_folder("qwen3", tmp_path)
    before = sorted(folder.iterdir())
    made = convert(folder, outtype="q8_0", pre="qwen2", dry_run=True, progress=False)
    assert sorted(folder.iterdir()) == before
    assert not made.path.exists()
    assert made.nbytes == convert(folder, outtype="q8_0", pre="qwen2", progress=False).nbytes


def test_weights_of_other_numbers_become_float32(tmp_path: Path) -> None:
    folder = make_folder("llama-2", tmp_path)
    for path in folder.glob("model*"):
        path.unlink()
    shapes = FOLDERS["llama-2"].shapes
    tensors = {n: np.full(shape, 3, np.float32) for n, shape in shapes.items()}
    write_safetensors(folder / "model.safetensors", tensors, dict.fromkeys(shapes, "I64"))
    made = convert(folder, tmp_path / "made.gguf", "f32", progress=False)
    with GGUFFile(made.path) as file:
        assert (file.data("blk.0.attn_q.weight").view(np.float32) == 3).all()


def test_names_in_the_header_may_come_in_any_order(tmp_path: Path) -> None:
    folder = make_folder("llama-2", tmp_path)
    first = convert(folder, tmp_path / "first.gguf", progress=False)
    for path in folder.glob("*.safetensors"):
        content = path.read_bytes()
        (size,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + size])
        text = json.dumps(dict(reversed(header.items()))).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])
    second = convert(folder, tmp_path / "second.gguf", progress=False)
    assert first.path.read_bytes() == second.path.read_bytes()
