"""Quantizing a model file: the types that were wished, a file that loads, nothing half done."""

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
from jitllm.llm.quantize import writing
from jitllm.llm.quantize.importance import Importance, Squares, load_importance

STORIES = model_path("stories260K")


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


EMBEDDED = "token_embd.weight", np.ones((4, 256), np.float32)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"ffn_up": "Q3_K", "token_embd": "Q3_K", "output": "Q6_K", "ffn_down_exps": "Q4_K"}),
        ({"pure": True}, {"output": "Q3_K", "ffn_down_exps": "Q3_K"}),
        ({"leave_output": True}, {"output": "F32"}),
        ({"output_type": "q8_0"}, {"output": "Q8_0", "token_embd": "Q3_K"}),
        ({"token_embedding_type": "Q5_K"}, {"output": "Q6_K", "token_embd": "Q5_K"}),
        ({"token_embedding_type": "Q5_K", "overrides": {"ffn_up": "F16"}}, {"ffn_up": "F16"}),
        ({"ftype": "copy"}, {"ffn_up": "F32", "ffn_down_exps": "F16", "output": "F32"}),
    ],
)
def test_wishes(tmp_path: Path, options: dict[str, Any], expected: dict[str, str]) -> None:
    source = small(tmp_path / "a.gguf", **dict([EMBEDDED]))
    given = {"ftype": "Q3_K_M", **options}
    got = types(jitllm.quantize(source, tmp_path / "b.gguf", **given, dry_run=True))
    short = {name.removeprefix("blk.0.").removesuffix(".weight"): t for name, t in got.items()}
    assert short.items() >= expected.items()


def test_embeddings_that_are_the_output_too(tmp_path: Path) -> None:
    matrices = {"blk.0.ffn_up.weight": EMBEDDED[1], **dict([EMBEDDED])}
    source = write_gguf(tmp_path / "a.gguf", {"llama.block_count": 1}, matrices)
    for options, expected in (
        ({}, "Q6_K"), ({"pure": True}, "Q3_K"), ({"output_type": "Q8_0"}, "Q8_0"),
        ({"output_type": "Q8_0", "token_embedding_type": "F16"}, "F16"),
    ):  # fmt: skip
        result = jitllm.quantize(source, tmp_path / "b.gguf", "Q3_K_M", **options, dry_run=True)
        assert types(result)["token_embd.weight"] == expected


def test_layers_left_out_and_metadata(tmp_path: Path) -> None:
    matrices = {f"blk.{i}.ffn_up.weight": np.full((2, 256), i, np.float32) for i in (0, 1, 2, 10)}
    metadata = {"llama.block_count": 4, "general.name": "big", "general.file_type": 1}
    source = write_gguf(tmp_path / "a.gguf", metadata, matrices)
    new: dict[str, Any] = {
        "general.name": "small",
        "a.big": 1 << 40,
        "a.one": 1,
        "a.half": 0.5,
        "a.yes": True,
    }
    target = tmp_path / "b.gguf"
    jitllm.quantize(source, target, "COPY", prune_layers=[0, 2], metadata=new, progress=False)
    found = {name: float(values[0, 0]) for name, (_, values) in values_of(target).items()}
    assert found == {"blk.0.ffn_up.weight": 1.0, "blk.1.ffn_up.weight": 10.0}
    with GGUFFile(target) as file:
        assert {key: file.metadata[key] for key in new} == new
        assert file.get("llama.block_count", int) == 2 and file.get("general.file_type", int) == 1


def test_importance_goes_by_the_old_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    names = "blk.0.ffn_up.weight", "blk.1.ffn_up.weight"
    matrices = {name: rng.standard_normal((2, 256)).astype(np.float32) for name in names}
    source = write_gguf(tmp_path / "a.gguf", {"llama.block_count": 2}, matrices)
    known = Importance({names[1]: Squares(np.ones((1, 256)), np.ones(1))}, (), 1)
    options: dict[str, Any] = {"imatrix": known, "progress": False}
    jitllm.quantize(source, tmp_path / "b.gguf", "IQ3_XXS", prune_layers=[0], **options)
    assert values_of(tmp_path / "b.gguf")[names[0]][0] == "IQ3_XXS"
    with pytest.raises(ValueError, match="'blk.0.ffn_up.weight': IQ3_XXS needs"):
        jitllm.quantize(source, tmp_path / "c.gguf", "IQ3_XXS", prune_layers=[1], **options)


def test_importance_of_some_tensors_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = small(tmp_path / "a.gguf")
    sums, counts = np.ones((1, 256), np.float32), np.ones((1, 1), np.float32)
    names = "blk.0.ffn_up.weight", "blk.0.ffn_down_exps.weight"
    matrix = write_gguf(
        tmp_path / "i.gguf",
        {"general.type": "imatrix"},
        {f"{names[0]}.in_sum2": sums, f"{names[0]}.counts": counts,
         f"{names[1]}.in_sum2": np.ones((3, 256), np.float32),
         f"{names[1]}.counts": np.ones((3, 1), np.float32)},
    )  # fmt: skip
    target = tmp_path / "b.gguf"
    measured = load_importance(matrix)
    options: dict[str, Any] = {"imatrix": measured.only([], ["exps"]), "progress": False}
    with pytest.raises(ValueError, match="exps.*IQ2_M needs an importance matrix"):
        jitllm.quantize(source, target, "IQ2_M", **options)
    jitllm.quantize(source, target, "IQ2_M", **options, dry_run=True)
    assert f"will need an importance matrix, for {names[1]!r}" in caplog.text
    options["imatrix"] = measured.only(["up", "down"], [])
    result = jitllm.quantize(source, target, "IQ2_M", **options)
    written = values_of(target)
    assert types(result)[names[0]] == "IQ2_S" == written[names[0]][0]
    right = values_of(source)[names[0]][1]
    off = written[names[0]][1] - right
    assert np.sqrt((off**2).mean()) < 0.35 * np.sqrt((right**2).mean())


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
        ({"overrides": {"ffn_up": "Q8_K"}}, "a type to write, one of BF16.*got 'Q8_K'"),
        ({"overrides": {"ffn_up": "IQ1_S"}}, "needs an importance matrix.*to make it IQ1_S"),
        ({"output_type": "X"}, "'output.weight': expected a type to write, .*got 'X'"),
        ({"ftype": "Q2_K_S"}, "Q2_K_S needs an importance matrix"),
        ({"ftype": "IQ2_XXS"}, "IQ2_XXS needs an importance matrix.*jitllm imatrix"),
        ({"ftype": "COPY", "overrides": {"ffn_up": "Q8_0"}}, "'ffn_up', which matches no matrix"),
        ({"prune_layers": [1]}, "layers to leave out from 0 to 0, got 1"),
        ({"metadata": {"general.alignment": 8}}, "got general.alignment"),
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

    def copy(_: Any, name: str) -> Iterator[bytes]:
        copied.append(name)
        yield b"\0"
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "copied", copy)
    with pytest.raises(KeyboardInterrupt):
        jitllm.quantize(STORIES, target, "Q4_0", progress=False)
    assert copied and os.listdir(tmp_path) == ["q.gguf"] and target.read_bytes() == b"old"


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = str(small(tmp_path / "a.gguf")), str(tmp_path / "b.gguf")
    assert main(["quantize", source, target, "Q6_K", "--dry-run", "-q"]) == 0
    assert re.search(
        r"output.weight +5 x 256 +F32 +Q6_K +5.00 KiB -> 1.03 KiB", capsys.readouterr().out
    )
    assert not Path(target).exists()
    assert main(["quantize", source, target, "Q6_K", "--tensor-type", "ffn_up=Q8_0", "-q"]) == 0
    assert re.search(r"b.gguf: .* -> .* \(Q6_K\)", capsys.readouterr().out)
    assert values_of(Path(target))["blk.0.ffn_up.weight"][0] == "Q8_0"
    listed = tmp_path / "types.txt"
    listed.write_text("ffn_up=F16\noutput=Q8_0")
    more = ["--tensor-type-file", str(listed), "--tensor-type", "ffn_up=Q5_K", "--pure"]
    more += ["--override-kv", "general.name=str:x=y", "--override-kv", "a.b=bool:true", "-t", "1"]
    assert main(["quantize", source, target, "18", *more, "-q"]) == 0
    got = {name: kind for name, (kind, _) in values_of(Path(target)).items()}
    assert got["output.weight"] == "Q8_0" and got["blk.0.ffn_up.weight"] == "Q5_K"
    with GGUFFile(target) as file:
        assert file.metadata["general.name"] == "x=y" and file.metadata["a.b"] is True
    for wrong in (
        ["--prune-layers", "x"],
        ["--override-kv", "a=int:x"],
        ["--override-kv", "a=1"],
        ["--include-weights", "a"],
    ):
        assert main(["quantize", source, target, "Q6_K", *wrong]) == 2
    assert main(["quantize", source, target, "Q6_K", "--tensor-type", "Q8_0"]) == 2
    assert main(["quantize", source, target, "Q7"]) == 1
    assert "one of F32" in capsys.readouterr().err
