"""Folders that cannot be converted: an error that says why, and no file left behind."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conversions.folder import weights, write_safetensors
from conversions.reference import FOLDERS, make_folder, recorded

from jitllm.llm.convert.api import convert
from jitllm.llm.errors import (
    JitllmError,
    ModelFormatError,
    ModelNotFoundError,
    UnsupportedArchitecture,
    UnsupportedFormat,
)


def _fails(
    folder: Path, family: str, error: type[JitllmError], match: str, kind: str = "f16"
) -> None:
    """Converting raises `error`, and leaves an older file as it was and no other one."""
    target = folder / "made.gguf"
    target.write_bytes(b"older")
    before = sorted(folder.iterdir())
    pre = recorded(family, "f32")[0]["tokenizer.ggml.pre"][1]
    with pytest.raises(error, match=match):
        convert(folder, target, kind, pre=pre, progress=False)
    assert target.read_bytes() == b"older"
    assert sorted(folder.iterdir()) == before


def _change(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def _rewrite(folder: Path, family: str, shapes: dict[str, tuple[int, ...]]) -> None:
    """Put other tensors into the one file."""
    tensors = {name: weights(name, shape) for name, shape in shapes.items()}
    write_safetensors(folder / "model.safetensors", tensors, dict.fromkeys(shapes, "F32"))


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_missing_file(missing: str, tmp_path: Path) -> None:
    folder = make_folder("qwen2", tmp_path)
    (folder / missing).unlink()
    _fails(folder, "qwen2", ModelNotFoundError, missing.partition(".")[0])


def test_missing_shard(tmp_path: Path) -> None:
    folder = make_folder("mistral", tmp_path)
    (folder / "model-00002-of-00003.safetensors").unlink()
    _fails(folder, "mistral", ModelNotFoundError, "model-00002-of-00003.safetensors")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="nowhere"):
        convert(tmp_path / "nowhere", progress=False)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ['{"a": ', "[1, 2]", "\x00\x01", "[" * 100_000])
def test_bad_json(name: str, content: str, tmp_path: Path) -> None:
    folder = make_folder("qwen2", tmp_path)
    (folder / name).write_text(content, encoding="utf-8")
    _fails(folder, "qwen2", ModelFormatError, name)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{}", b'{"weight_map": []}', b"[]"])
def test_bad_index(content: bytes, tmp_path: Path) -> None:
    folder = make_folder("mistral", tmp_path)
    (folder / "model.safetensors.index.json").write_bytes(content)
    _fails(folder, "mistral", (ModelFormatError), "model.safetensors")


def test_index_of_other_tensors(tmp_path: Path) -> None:
    folder = make_folder("mistral", tmp_path)
    index = folder / "model.safetensors.index.json"
    _change(index, lambda c: c["weight_map"].update(other=next(iter(c["weight_map"].values()))))
    _fails(folder, "mistral", ModelFormatError, "other")


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.5, 0.999])
def test_truncated_weights(share: float, tmp_path: Path) -> None:
    folder = make_folder("qwen3", tmp_path)
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    _fails(folder, "qwen3", ModelFormatError, "model.safetensors")


@pytest.mark.parametrize(
    ("family", "tensor", "shape"),
    [
        ("llama", "model.layers.1.self_attn.q_proj.weight", (84, 96)),
        ("deepseek2", "model.layers.0.self_attn.kv_b_proj.weight", (150, 32)),
        ("mamba2", "backbone.layers.2.mixer.norm.weight", (127,)),
        ("falcon-h1", "model.layers.0.mamba.in_proj.weight", (200, 64)),
        ("qwen35", "model.language_model.layers.0.linear_attn.out_proj.weight", (64, 190)),
        ("qwen3moe", "model.layers.1.mlp.experts.3.up_proj.weight", (31, 64)),
    ],
)
def test_tensor_of_another_shape(
    family: str, tensor: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    folder = make_folder(family, tmp_path)
    _rewrite(folder, family, FOLDERS[family].shapes | {tensor: shape})
    _fails(folder, family, ModelFormatError, "expected")


@pytest.mark.parametrize(
    ("family", "tensor"),
    [
        ("mixtral", "model.layers.0.block_sparse_moe.experts.2.w3.weight"),
        ("deepseek2", "model.layers.2.mlp.experts.0.down_proj.weight"),
    ],
)
def test_missing_expert(family: str, tensor: str, tmp_path: Path) -> None:
    folder = make_folder(family, tmp_path)
    shapes = {name: shape for name, shape in FOLDERS[family].shapes.items() if name != tensor}
    _rewrite(folder, family, shapes)
    _fails(folder, family, ModelFormatError, "experts")


def test_missing_layer(tmp_path: Path) -> None:
    folder = make_folder("qwen3", tmp_path)
    shapes = {n: shape for n, shape in FOLDERS["qwen3"].shapes.items() if ".layers.1." not in n}
    _rewrite(folder, "qwen3", shapes)
    _fails(folder, "qwen3", ModelFormatError, "layers")


def test_unknown_tensor(tmp_path: Path) -> None:
    folder = make_folder("qwen3", tmp_path)
    _rewrite(folder, "qwen3", FOLDERS["qwen3"].shapes | {"model.layers.0.mlp.spare.weight": (4, 4)})
    _fails(folder, "qwen3", ModelFormatError, "spare")


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "bf16"), (np.inf, "q8_0"), (1e30, "f16")])
def test_weights_that_a_type_cannot_hold(value: float, kind: str, tmp_path: Path) -> None:
    folder = make_folder("llama-metaspace", tmp_path)
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-4:] = struct.pack("<f", value)
    path.write_bytes(content)
    _fails(folder, "llama-metaspace", ModelFormatError, "finite", kind)


@pytest.mark.parametrize("value", [0, -1, "64", 2.5, True, [64], None])
@pytest.mark.parametrize("key", ["hidden_size", "num_attention_heads", "num_hidden_layers"])
def test_sizes_that_are_no_sizes(key: str, value: Any, tmp_path: Path) -> None:
    folder = make_folder("llama", tmp_path)
    _change(folder / "config.json", lambda c: c.update({key: value}))
    made = {"hidden_size": "embedding_length", "num_attention_heads": "head_count"}
    _fails(folder, "llama", ModelFormatError, f"{key}|{made.get(key, key)}")


def test_fewer_tokens_than_the_tokenizer_has(tmp_path: Path) -> None:
    folder = make_folder("qwen2", tmp_path)
    _change(folder / "config.json", lambda c: c.update(vocab_size=100))
    _fails(folder, "qwen2", ModelFormatError, "vocab_size")


@pytest.mark.parametrize("content", [b"", b"\x0a", b"\x0a\xff\xff\xff\xff\x7f", bytes(100)])
def test_bad_sentencepiece_model(content: bytes, tmp_path: Path) -> None:
    folder = make_folder("llama-2", tmp_path)
    (folder / "tokenizer.model").write_bytes(content)
    _fails(folder, "llama-2", ModelFormatError, "tokenizer.model")


def test_card_that_is_no_yaml(tmp_path: Path) -> None:
    folder = make_folder("llama", tmp_path)
    (folder / "README.md").write_text("---\ntags: [a\n---\n", encoding="utf-8")
    _fails(folder, "llama", ModelFormatError, "README.md")


@pytest.mark.parametrize(
    "change", [{"model_type": "new"}, {"architectures": ["NewForCausalLM"]}, {"model_type": "_bpe"}]
)
def test_unknown_kind_of_model(change: dict[str, Any], tmp_path: Path) -> None:
    folder = make_folder("qwen2", tmp_path)
    _change(folder / "config.json", lambda c: c.update(change))
    _fails(folder, "qwen2", UnsupportedArchitecture, "qwen2|Qwen2")


def test_nomic_with_experts(tmp_path: Path) -> None:
    folder = make_folder("nomic-bert", tmp_path)
    _change(folder / "config.json", lambda c: c.update(moe_every_n_layers=2))
    _fails(folder, "nomic-bert", UnsupportedArchitecture, "moe_every_n_layers")


def test_quantized_weights(tmp_path: Path) -> None:
    folder = make_folder("qwen2", tmp_path)
    quantized = {"quantization_config": {"quant_method": "gptq"}}
    _change(folder / "config.json", lambda c: c.update(quantized))
    _fails(folder, "qwen2", UnsupportedFormat, "gptq")


def test_pooling_that_no_reader_knows(tmp_path: Path) -> None:
    folder = make_folder("bert", tmp_path)
    path = folder / "1_Pooling" / "config.json"
    path.write_text('{"pooling_mode_max_tokens": true}', encoding="utf-8")
    _fails(folder, "bert", UnsupportedFormat, "pooling_mode_max_tokens")


@pytest.mark.parametrize("content", ["{", "{}", "[1]", '[{"type": "Pooling"}]'])
def test_bad_modules(content: str, tmp_path: Path) -> None:
    folder = make_folder("bert", tmp_path)
    (folder / "modules.json").write_text(content, encoding="utf-8")
    if content == "{}":  # no modules, then
        convert(folder, folder / "made.gguf", pre="bert-bge", progress=False)
    else:
        _fails(folder, "bert", ModelFormatError, "modules.json")


def test_unknown_type(tmp_path: Path) -> None:
    folder = make_folder("qwen2", tmp_path)
    with pytest.raises(ValueError, match="q8_0"):
        convert(folder, folder / "made.gguf", "q4_k", pre="qwen2", progress=False)
