"""Quantizing a model file: types like llama-quantize's, a file that loads, nothing half done."""

import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from blocks import quantize as gguf_quantize
from models import model_path
from tiny import write_gguf

import jitllm
from jitllm.llm.cli import main
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.loaders.gguf_writer import read_values
from jitllm.llm.quantize import api, ftypes
from jitllm.llm.quantize.rules import ModelFacts, Rules, fitting_type, in_order, place

STORIES = model_path("stories260K")
# Types that llama-quantize chose for real models: tests/snapshots of llama.cpp.
SNAPSHOTS = json.loads((Path(__file__).parents[1] / "data/quantize_types.json").read_text())
SHAPE = {"2": (256,), "3": (4, 256)}


def spread(places: dict[str, dict[str, str]]) -> Iterator[tuple[str, str]]:
    """Tensor names and what stands for them; layers are written like "0-3 7"."""
    for suffix, parts in places.items():
        for value, layers in parts.items():
            for first, last in re.findall(r"(\d+)(?:-(\d+))?", layers):
                for i in range(int(first), int(last or first) + 1):
                    yield f"blk.{i}.{suffix}", value
            if not layers:
                yield suffix, value


@pytest.mark.parametrize("model", SNAPSHOTS)
def test_types_are_those_of_llama_quantize(model: str) -> None:
    known = SNAPSHOTS[model]
    tensors = dict(spread(known["tensors"]))
    facts = ModelFacts(
        known["architecture"], known["n_layers"], known["n_expert"], known["n_gqa"],
        n_values=sum(place(name) == "value" for name in tensors),
        tied="output.weight" not in tensors, is_70b="70b" in model,
    )  # fmt: skip
    for name in known["types"]:
        ftype = ftypes.get(name)
        expected = {n: ftype.type_name for n in tensors} | dict(spread(known["types"][name]))
        rules, got = Rules(ftype, facts), {}
        for tensor in in_order(list(tensors)):
            dims, columns = tensors[tensor].split()
            chosen = rules.choose(tensor, (*SHAPE[dims], int(columns)))
            got[tensor] = fitting_type(chosen, int(columns))
        assert got == expected, name


def test_all_ftypes_are_known_or_later_than_the_snapshots() -> None:
    recorded = set(SNAPSHOTS["qwen3-0.6b"]["types"])
    assert set(ftypes.names()) - recorded == {"F32", "F16", "BF16", "Q1_0", "Q2_0"}


@pytest.mark.parametrize(
    ("ftype", "facts", "name", "expected"),
    [
        ("Q4_K_M", {"n_expert": 8}, "blk.0.attn_v.weight", "Q8_0"),
        ("Q4_K_M", {"n_expert": 8}, "blk.0.attn_k.weight", "Q8_0"),
        ("Q4_K_M", {"n_expert": 8}, "blk.0.attn_output.weight", "Q5_K"),
        ("Q4_0", {"has_imatrix": True}, "blk.0.ffn_down.weight", "Q4_1"),
        ("Q4_0", {}, "blk.0.ffn_down.weight", "Q4_0"),
        ("IQ4_XS", {"has_imatrix": True}, "blk.0.ffn_down.weight", "IQ4_XS"),
        ("IQ4_XS", {}, "blk.0.ffn_down.weight", "Q5_K"),
        ("Q4_K_M", {"architecture": "falcon"}, "blk.0.ffn_down.weight", "Q6_K"),
        ("Q3_K_L", {"architecture": "falcon"}, "blk.0.attn_output.weight", "Q4_K"),
        ("Q4_K_M", {"architecture": "falcon"}, "output.weight", "Q8_0"),
        ("TQ1_0", {}, "token_embd.weight", "Q4_K"),
        ("Q2_0", {}, "token_embd.weight", "Q4_K"),
        ("Q2_0", {}, "output.weight", "Q6_K"),
        ("Q1_0", {}, "token_embd.weight", "Q1_0"),
        ("Q4_K_M", {"architecture": "glm5-next"}, "blk.0.attn_q_a.weight", "Q8_0"),
    ],
)
def test_rules_by_hand(ftype: str, facts: dict[str, Any], name: str, expected: str) -> None:
    known = ModelFacts(**{"architecture": "llama", "n_layers": 32, "n_values": 32, **facts})
    assert Rules(ftypes.get(ftype), known).choose(name, (256, 256)) == expected


def values_of(path: Path) -> dict[str, Any]:
    """Tensors as the gguf package reads them: type name and float32 values."""
    reader = gguf.GGUFReader(path)
    return {
        t.name: (t.tensor_type.name, gguf.quants.dequantize(t.data, t.tensor_type))
        for t in reader.tensors
    }


def test_a_real_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        result = jitllm.quantize(STORIES, tmp_path / "q.gguf", "q4_0", progress=False)
    assert "rows of 172 are no whole blocks of Q4_0, it becomes F16" in caplog.text
    assert os.listdir(tmp_path) == ["q.gguf"] and result.path == tmp_path / "q.gguf"
    before, after = values_of(STORIES), values_of(result.path)
    assert list(before) == list(after)
    wanted = {"ffn_down": "F16", "norm": "F32", "token_embd": "Q8_0"}
    for name, (kind, values) in after.items():
        expected = next((t for part, t in wanted.items() if part in name), "Q4_0")
        assert kind == expected
        tensor_type = gguf.GGMLQuantizationType[kind]
        source = before[name][1]
        stored = source if kind == "F32" else gguf_quantize(kind, source)
        if kind == "F16":
            stored = source.astype(np.float16)
        assert np.array_equal(values, gguf.quants.dequantize(stored, tensor_type)), name
    old, new = read_values(STORIES), read_values(result.path)
    changed = {"general.file_type", "general.quantization_version"}
    assert {k: v for k, v in old.items() if k not in changed} == {
        k: v for k, v in new.items() if k not in changed
    }
    with GGUFFile(result.path) as file:
        assert file.get("general.file_type", int) == 2
    assert result.nbytes == sum(step.nbytes for step in result.tensors) < result.source_nbytes


def test_the_result_generates_text(tmp_path: Path) -> None:
    jitllm.quantize(STORIES, tmp_path / "q.gguf", "Q8_0", progress=False)
    with jitllm.load(tmp_path / "q.gguf", device="reference", n_ctx=64, progress=False) as model:
        text = model.generate("Once upon a time", temperature=0, max_tokens=8)
    assert isinstance(text, jitllm.Generation) and text.text.startswith(", there was a")


def small(path: Path, **tensors: Any) -> Path:
    """A model of one layer with the tensors given, 256 columns each."""
    metadata = {
        "general.architecture": "llama", "llama.block_count": 1,
        "llama.attention.head_count": 4, "general.alignment": 64,
    }  # fmt: skip
    rng = np.random.default_rng(3)
    matrices: dict[str, Any] = {
        "blk.0.ffn_up.weight": rng.standard_normal((6, 256)).astype(np.float32),
        "blk.0.ffn_down_exps.weight": rng.standard_normal((3, 2, 256)).astype(np.float16),
        "blk.0.ffn_norm.weight": np.ones(256, np.float32),
        "output.weight": rng.standard_normal((5, 256)).astype(np.float32),
    }
    return write_gguf(path, metadata, matrices | tensors)


def types(result: jitllm.Quantized) -> dict[str, str]:
    return {step.name: step.type_name for step in result.tensors}


def test_a_split_model_becomes_one_file(tmp_path: Path) -> None:
    matrix = np.random.default_rng(5).standard_normal((2, 64)).astype(np.float32)
    metadata = {"llama.block_count": 1, "split.count": np.uint16(2), "split.no": np.uint16(0)}
    first = tmp_path / "m-00001-of-00002.gguf"
    write_gguf(first, metadata, {"blk.0.ffn_up.weight": matrix})
    second = {"split.count": np.uint16(2), "split.no": np.uint16(1)}
    write_gguf(tmp_path / "m-00002-of-00002.gguf", second, {"output.weight": -matrix})
    result = jitllm.quantize(first, tmp_path / "one.gguf", "BF16", progress=False)
    with GGUFFile(tmp_path / "one.gguf") as file:
        assert not any(key.startswith("split.") for key in file.metadata)
    assert result.ftype == "BF16"
    values = values_of(tmp_path / "one.gguf")
    assert list(values) == ["blk.0.ffn_up.weight", "output.weight"]
    assert all(np.allclose(np.abs(v), np.abs(matrix), rtol=2**-8) for _, v in values.values())


def test_overrides_and_dry_run(tmp_path: Path) -> None:
    source = small(tmp_path / "a.gguf")
    result = jitllm.quantize(
        source, tmp_path / "b.gguf", "Q4_K_M", overrides={"ffn_up": "q3_k", "ffn": "F16"},
        dry_run=True,
    )  # fmt: skip
    assert result.path is None and os.listdir(tmp_path) == ["a.gguf"]
    assert types(result) == {
        "blk.0.ffn_up.weight": "Q3_K",
        "blk.0.ffn_down_exps.weight": "F16",
        "blk.0.ffn_norm.weight": "F32",
        "output.weight": "Q6_K",
    }
    assert result.nbytes == 6 * 110 + 6 * 512 + 1024 + 5 * 210


def test_imatrix_changes_errors_where_it_says(tmp_path: Path) -> None:
    source = small(tmp_path / "a.gguf")
    sums = np.ones((3, 256), np.float32)
    sums[1, ::16] = 4e4  # one column of each group of Q3_K
    counts = np.array([[2], [2], [0]], np.float32)
    name = "blk.0.ffn_down_exps.weight"
    matrix = write_gguf(
        tmp_path / "i.gguf",
        {"general.type": "imatrix", "imatrix.datasets": ["wiki"], "imatrix.chunk_count": 5},
        {f"{name}.in_sum2": sums, f"{name}.counts": counts},
    )
    plain, known = tmp_path / "p.gguf", tmp_path / "k.gguf"
    overrides = {"ffn_down": "Q3_K"}
    jitllm.quantize(source, plain, "Q4_K_S", overrides=overrides, progress=False)
    jitllm.quantize(source, known, "Q4_K_S", overrides=overrides, imatrix=matrix, progress=False)
    right = values_of(source)[name][1].reshape(3, 2, 256)
    off = [(values_of(p)[name][1].reshape(3, 2, 256) - right) ** 2 for p in (plain, known)]
    assert off[1][1, :, ::16].sum() < 0.5 * off[0][1, :, ::16].sum()
    with GGUFFile(known) as file:
        assert file.get("quantize.imatrix.dataset", str) == "wiki"
        assert file.get("quantize.imatrix.entries_count", int) == 1
        assert file.get("quantize.imatrix.chunks_count", int) == 5
        assert file.get("quantize.imatrix.file", str) == "i.gguf"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ftype": "Q9"}, "one of F32, .*Q4_K_M.*MXFP4_MOE.*, got 'Q9'"),
        ({"overrides": {"nothing": "Q8_0"}}, "'nothing', which matches no matrix"),
        ({"overrides": {"ffn_up": "IQ1_S"}}, "a type to write, one of BF16.*got 'IQ1_S'"),
        ({"ftype": "Q2_K_S"}, "Q2_K_S needs an importance matrix"),
        ({"imatrix": "a.gguf"}, "in_sum2', got none"),
        ({"source": "q.gguf"}, "expected F32, F16 or BF16, got Q4_0.*--requantize"),
        ({"target": "a.gguf"}, "target other than the source"),
        ({"source": "nan.gguf"}, "'output.weight': expected finite weights"),
    ],
)
def test_refusals_leave_nothing(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    source = small(tmp_path / "a.gguf")
    small(tmp_path / "nan.gguf", **{"output.weight": np.full((2, 256), np.nan, np.float32)})
    jitllm.quantize(source, tmp_path / "q.gguf", "Q4_0", progress=False)
    there = sorted(os.listdir(tmp_path))
    given = {"source": "a.gguf", "target": "new.gguf", "ftype": "Q4_K_M", **options}
    for key in ("source", "target", "imatrix"):
        if key in given:
            given[key] = tmp_path / given[key]
    with pytest.raises(ValueError, match=message):
        jitllm.quantize(**given, progress=False)
    assert sorted(os.listdir(tmp_path)) == there


def test_an_interrupt_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "q.gguf"
    target.write_bytes(b"old")
    copied: list[str] = []

    def copy(_: Any, step: Any) -> Iterator[bytes]:
        copied.append(step.name)
        yield b"\0"
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "_copy", copy)
    with pytest.raises(KeyboardInterrupt):
        jitllm.quantize(STORIES, target, "Q4_0", progress=False)
    assert copied and os.listdir(tmp_path) == ["q.gguf"] and target.read_bytes() == b"old"


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = str(small(tmp_path / "a.gguf")), str(tmp_path / "b.gguf")
    assert main(["quantize", source, target, "Q6_K", "--dry-run", "-q"]) == 0
    assert re.search(r"output.weight +5 x 256 +F32 +Q6_K", capsys.readouterr().out)
    assert not Path(target).exists()
    assert main(["quantize", source, target, "Q6_K", "--tensor-type", "ffn_up=Q8_0", "-q"]) == 0
    assert re.search(r"b.gguf: .* -> .* \(Q6_K\)", capsys.readouterr().out)
    assert values_of(Path(target))["blk.0.ffn_up.weight"][0] == "Q8_0"
    assert main(["quantize", source, target, "Q6_K", "--tensor-type", "Q8_0"]) == 2
    assert main(["quantize", source, target, "Q7"]) == 1
    assert "one of F32" in capsys.readouterr().err
