"""Models cut into several files and made whole again."""

import os
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from models import model_path
from tiny import write_gguf

import jitllm
from jitllm.llm import cli
from jitllm.llm.loaders import split as module
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.loaders.gguf_copy import copied
from jitllm.llm.loaders.gguf_writer import read_values
from jitllm.llm.loaders.split import merge, parse_size, split

STORIES = model_path("stories260K")


def _content(path: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    with GGUFFile(path) as file:
        tensors = {name: (info.shape, info.type_name, file.data(name).tobytes())
                   for name, info in file.tensors.items()}  # fmt: skip
    return read_values(path), tensors


@pytest.mark.parametrize(
    "words",
    [{"max_tensors": 7}, {"max_size": "120K"}, {"max_size": 1}, {}, {"no_tensor_first": True}],
)
def test_there_and_back(tmp_path: Path, words: dict[str, Any]) -> None:
    parts = split(STORIES, tmp_path / "part", **words)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [part.path.name for part in parts] == names
    assert names[0] == f"part-00001-of-{len(parts):05d}.gguf"
    with GGUFFile(parts[0].path) as file:
        assert len(file.paths) == len(parts)
    whole = merge(parts[0].path, tmp_path / "whole.gguf")
    assert _content(whole.path) == _content(STORIES)
    assert whole.nbytes == sum(part.nbytes for part in parts)
    again = split(parts[0].path, tmp_path / "other", max_tensors=11)  # what is cut already
    assert _content(merge(again[0].path, tmp_path / "w.gguf").path) == _content(STORIES)


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    with GGUFFile(STORIES) as file:
        sizes = [-(-info.nbytes // 32) * 32 for info in file.tensors.values()]
    parts = split(STORIES, "nowhere/p", max_tensors=7, dry_run=True)
    assert [len(part.tensors) for part in parts] == [7] * (len(sizes) // 7) + [len(sizes) % 7]
    parts = split(STORIES, "nowhere/p", max_size=120_000, dry_run=True)
    assert [info.nbytes for part in parts for info in part.tensors] == [
        info.nbytes for info in GGUFFile(STORIES).tensors.values()
    ]
    for part, after in zip(parts, [*parts[1:], None], strict=True):
        assert part.nbytes <= 120_000 or len(part.tensors) == 1
        if after is not None:  # the next tensor had no room
            assert part.nbytes + -(-after.tensors[0].nbytes // 32) * 32 > 120_000
    first, second = split(STORIES, "nowhere/p", no_tensor_first=True, dry_run=True)
    assert (len(first.tensors), len(second.tensors)) == (0, len(sizes))
    assert not Path("nowhere").exists()
    assert [parse_size(text) for text in ("3K", "20m", "2G")] == [3000, 20_000_000, 2_000_000_000]
    for wrong in ("", "G", "2", "0M", "-1M", "2.5G", "2T"):
        with pytest.raises(ValueError, match="a size such as"):
            parse_size(wrong)
    with pytest.raises(ValueError, match="limits from 1"):
        split(STORIES, "nowhere/p", max_tensors=0)
    many: dict[str, Any] = {"max_size": 1}
    monkeypatch.setattr(module, "_MAX_PARTS", 9)
    with pytest.raises(ValueError, match="at most 9 files"):
        split(STORIES, "nowhere/p", **many)


SPLIT_KEYS = "split.no", "split.count", "split.tensors.count"


def test_keys_and_the_model(tmp_path: Path) -> None:
    parts = split(STORIES, tmp_path / "p", max_tensors=20)
    fields = [gguf.GGUFReader(part.path).fields for part in parts]
    for i, each in enumerate(fields):
        kinds = [each[key].types[0].name for key in SPLIT_KEYS]
        assert kinds == ["UINT16", "UINT16", "INT32"]
        values = [each[key].contents() for key in SPLIT_KEYS]
        assert values == [i, len(parts), sum(len(part.tensors) for part in parts)]
        assert ("general.architecture" in each) == (i == 0)
    expected, tokens = None, [1, 400, 300, 20]
    for path in (STORIES, parts[0].path, merge(parts[0].path, tmp_path / "w.gguf").path):
        with jitllm.load(path, device="reference", progress=False) as model:
            logits = model.forward(tokens)
        assert expected is None or np.array_equal(logits, expected)
        expected = logits


def test_alignment(tmp_path: Path) -> None:
    metadata = {"general.alignment": 256, "general.name": "a"}
    tensors = {f"t{i}": np.full(i + 1, i, np.float32) for i in range(5)}
    source = write_gguf(tmp_path / "a.gguf", metadata, tensors)
    parts = split(source, tmp_path / "p", max_tensors=2)
    for part in parts:
        reader = gguf.GGUFReader(part.path)
        assert all(tensor.data_offset % 256 == 0 for tensor in reader.tensors)
        assert [t.data.tolist() for t in reader.tensors] == [
            tensors[t.name].tolist() for t in reader.tensors
        ]
    assert _content(merge(parts[0].path, tmp_path / "b.gguf").path) == _content(source)


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (kept := tmp_path / "p-00001-of-00002.gguf").write_bytes(b"before")
    calls = list[str]()

    def interrupted(file: GGUFFile, name: str) -> Any:
        calls.append(name)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return copied(file, name)

    monkeypatch.setattr(module, "copied", interrupted)
    with pytest.raises(KeyboardInterrupt):
        split(STORIES, tmp_path / "p", max_tensors=25)
    assert os.listdir(tmp_path) == [kept.name]
    assert kept.read_bytes() == b"before"


def test_errors(tmp_path: Path) -> None:
    parts = split(STORIES, tmp_path / "p", max_tensors=30)
    with pytest.raises(ValueError, match="other than the source"):
        split(parts[0].path, tmp_path / "p", max_tensors=30)
    with pytest.raises(ValueError, match="other than the source"):
        merge(parts[0].path, parts[1].path)
    with pytest.raises(jitllm.GGUFError, match="got a whole model"):
        merge(STORIES, tmp_path / "w.gguf")
    parts[1].path.unlink()
    with pytest.raises(jitllm.ModelNotFoundError, match="p-00002-of-00002"):
        merge(parts[0].path, tmp_path / "w.gguf")
    assert not (tmp_path / "w.gguf").exists()


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prefix, whole = tmp_path / "p", tmp_path / "w.gguf"
    cut = ["split", str(STORIES), str(prefix), "--max-size", "600K"]
    assert cli.main([*cut, "--dry-run"]) == 0
    listed = capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert listed.startswith(f"{prefix}-00001-of-00002.gguf: ")
    assert cli.main(cut) == 0
    assert capsys.readouterr().out == listed
    back = ["split", "--merge", f"{prefix}-00001-of-00002.gguf", str(whole)]
    assert cli.main([*back, "--dry-run"]) == 0
    assert not whole.exists()
    assert cli.main(back) == 0
    assert _content(whole) == _content(STORIES)
    assert cli.main(back) == cli.USAGE  # the target is there
    assert cli.main([*cut, "--max-tensors", "3"]) == cli.USAGE
    assert cli.main([*back, "--split"]) == cli.USAGE
    assert cli.main([*cut[:3], "--max-size", "2T"]) == cli.FAILED
