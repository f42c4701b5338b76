"""What stands in folders beside weights: cards, names, tokenizers' settings, JSON of any form."""

import json
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import yaml
from conversions import record_special
from conversions.folder import weights, write_safetensors
from conversions.reference import FOLDERS, describe, make_folder, recorded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jitllm
from jitllm.llm.convert import _general as general
from jitllm.llm.convert import _names as names
from jitllm.llm.convert import _special as special
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target
from jitllm.llm.convert._weights import constant
from jitllm.llm.errors import JitllmError
from jitllm.llm.loaders.gguf_writer import array, scalar

_PARTS = (
    "Llama", "llama", "3.2", "v0.1", "7B", "8x7B", "1.5b", "7b1", "A3B", "270m", "128k", "Instruct",
    "chat", "it", "mini", "large", "xl", "q4_0", "bf16", "lora", "iter3", "2407", "1_5B", "Ünï",
)  # fmt: skip
_OWNERS = ("", "meta-llama/", "./", "/")


@given(
    owner=st.sampled_from(_OWNERS),
    parts=st.lists(st.sampled_from(_PARTS), max_size=6),
    between=st.sampled_from(["-", "--", "_", " "]),
    n_values=st.sampled_from([0, 240_000, 270_000_000, 7_000_000_000]),
)
def test_names(owner: str, parts: list[str], between: str, n_values: int) -> None:
    model_id = owner + between.join(parts)
    name, organization, *others = gguf.Metadata.get_model_id_components(model_id, n_values)
    theirs = [gguf.Metadata.id_to_title(text or "") or None for text in (name, organization)]
    ours = names.parse_name(model_id, n_values)
    assert [ours.name or None, *ours[1:]] == [*theirs, *others]


@given(
    st.integers(1, 10**13), st.integers(1, 10**13), st.integers(1, 10**13), st.sampled_from([0, 8])
)
def test_size_labels(total: int, shared: int, expert: int, n_experts: int) -> None:
    theirs = gguf.size_label(total, shared, expert, n_experts)
    assert general.size_label(total, shared, expert, n_experts) == theirs


_CARDS: dict[str, list[Any]] = {
    "license": ["mit", ["mit", "gpl"]], "name": ["Nice"], "model_creator": ["C"], "version": ["v1"],
    "model_type": ["llama"], "size_label": ["3B"], "description": ["D"], "url": ["u"],
    "tags": [["a", "b"], "one"], "pipeline_tag": ["text-generation"], "language": [["en", "no"]],
    "base_model": ["o/Llama-7B-v2", ["https://example.org/m", "plain"], [{"name": "N"}], None],
    "datasets": [["o/set-1B"], "o/other"],
}  # fmt: skip


def test_cards(tmp_path: Path) -> None:
    rng = random.Random(0)
    for i in range(60):
        folder = tmp_path / str(i) / rng.choice(["Llama-3.2-1B-Instruct", "tiny", "some model"])
        folder.mkdir(parents=True)
        card = {k: rng.choice(v) for k, v in _CARDS.items() if rng.random() < 0.4}
        (folder / "README.md").write_text(f"---\n{yaml.safe_dump(card)}---\n# Text\n", "utf-8")
        config = {"model_type": "llama", "_name_or_path": rng.choice(["o/Llama-7B", "/a/b/c", ""])}
        (folder / "config.json").write_text(json.dumps(config), "utf-8")
        theirs = gguf.GGUFWriter(None, "llama")
        gguf.Metadata.load(None, folder, None, 3).set_gguf_meta_model(theirs)
        ours = Target("llama")
        ours.tensor("output.weight", constant([1.0, 2.0, 3.0]))
        general.write(Source(folder), ours)
        added = {"general.type", "general.size_label"}  # which the package leaves to its caller
        expected = {
            key: _bytes(value.type.name.lower(), value.value)
            for key, value in theirs.kv_data[0].items()
        }
        assert ours.values.keys() - added == expected.keys() - added, card
        assert {key: ours.values[key] for key in expected} == expected, card


def test_parts_of_tokens(tmp_path: Path) -> None:
    expected = json.loads(record_special.PATH.read_text("utf-8"))
    for i, case in enumerate(record_special.cases()):
        source = Source(record_special.write(case, tmp_path / str(i)))
        made = Target("llama")
        special.write(source, made, with_merges=True, n_vocab=record_special.N_VOCAB)
        made.values.pop("general.architecture")
        assert made.values == {key: _bytes(*value) for key, value in expected[i].items()}, case


def _bytes(kind: str, value: Any) -> bytes:
    return array("string", value) if kind == "array" else scalar(kind, value)


def test_no_space_is_put_before_texts_where_the_tokenizer_puts_none(tmp_path: Path) -> None:
    folder = make_folder("llama-metaspace", tmp_path)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text("utf-8"))
    assert "add_space_prefix" not in str(convert_family("llama-metaspace", folder)[0])
    tokenizer["normalizer"]["normalizers"].pop(0)
    path.write_text(json.dumps(tokenizer), "utf-8")
    metadata = convert_family("llama-metaspace", folder)[0]
    assert metadata["tokenizer.ggml.add_space_prefix"] == ["bool", False]


def convert_family(family: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    made = jitllm.convert(
        folder, folder.parent / "made.gguf", "f16", pre=FOLDERS[family].pre, progress=False
    )
    return describe(made.path)


@pytest.mark.parametrize(
    "family",
    ["llama", "llama-2", "mistral", "mixtral", "qwen2", "qwen3", "qwen3moe", "gemma3", "smollm3",
     "olmo2", "granite"],
)  # fmt: skip
def test_order_of_keys_and_tensors(family: str, tmp_path: Path) -> None:
    made = convert_family(family, make_folder(family, tmp_path))
    for ours, theirs in zip(made, recorded(family, "f16"), strict=True):
        ours.pop("general.file_type", None)  # which is recorded on its own
        theirs.pop("general.file_type", None)
        assert list(ours) == list(theirs)


def test_experts_that_are_stored_together(tmp_path: Path) -> None:
    folder = make_folder("qwen3moe", tmp_path)
    shapes = FOLDERS["qwen3moe"].shapes
    tensors = {n: weights(n, shape) for n, shape in shapes.items() if ".experts." not in n}
    for prefix in {n.partition("experts.")[0] for n in shapes if ".experts." in n}:

        def stacked(part: str, at: str = f"{prefix}experts.") -> Any:
            found = sorted(n for n in shapes if n.startswith(at) and n.endswith(f"{part}.weight"))
            return np.stack([weights(name, shapes[name]) for name in found])

        both = np.concatenate([stacked("gate_proj"), stacked("up_proj")], axis=1)
        tensors |= {f"{prefix}experts.gate_up_proj": both}
        tensors |= {f"{prefix}experts.down_proj": stacked("down_proj")}
    for path in folder.glob("model*"):
        path.unlink()
    write_safetensors(folder / "model.safetensors", tensors, dict.fromkeys(tensors, "BF16"))
    assert convert_family("qwen3moe", folder)[1] == recorded("qwen3moe", "f16")[1]


def test_settings_of_sampling_that_are_no_json(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_folder("qwen2", tmp_path)
    (folder / "generation_config.json").write_text("{,}", "utf-8")
    with caplog.at_level(logging.WARNING, "jitllm.convert"):
        convert_family("qwen2", folder)
    assert "generation_config.json" in caplog.text


def test_no_file_of_another_kind_is_replaced(tmp_path: Path) -> None:
    folder = make_folder("qwen2", tmp_path)
    path = folder / "model.safetensors"
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"\.gguf to replace"):
        jitllm.convert(folder, path, pre="qwen2", progress=False)
    assert path.read_bytes() == before


_ODD: tuple[Any, ...] = (
    None,
    0,
    -1,
    1 << 40,
    1e30,
    "",
    "x",
    [],
    [1],
    ["a"],
    {},
    {"a": 1},
    True,
    [[1]],
)
_FAMILIES = ("llama", "llama-metaspace", "phi3-long", "qwen3moe", "gemma3", "bert")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to values within a value of JSON; of long lists and objects the first ones."""
    if path:
        yield path
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in list(items)[:40]:
            yield from places(inner, (*path, key))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    path = tmp_path_factory.mktemp("folders")
    return {family: make_folder(family, path / family) for family in _FAMILIES}


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_json_of_any_form(data: st.DataObject, folders: dict[str, Path], tmp_path: Path) -> None:
    family = data.draw(st.sampled_from(_FAMILIES))
    folder = folders[family]
    path = data.draw(st.sampled_from(sorted(p for p in folder.glob("*.json"))))
    text = path.read_text("utf-8")
    content = json.loads(text)
    *way, last = data.draw(st.sampled_from(list(places(content))))
    inner = content
    for key in way:
        inner = inner[key]
    inner[last] = data.draw(st.sampled_from(_ODD))
    path.write_text(json.dumps(content), "utf-8")
    try:
        jitllm.convert(folder, tmp_path / "a.gguf", pre=FOLDERS[family].pre, progress=False)
    except JitllmError:
        pass
    finally:
        path.write_text(text, "utf-8")
