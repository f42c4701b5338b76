"""Checkpoints of llama2.c become the same model again, and the command that converts."""

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conversions.reference import FOLDERS, make_folder
from models import model_path

import jitllm
from jitllm.llm.cli import main
from jitllm.llm.errors import ModelFormatError, ModelNotFoundError, UnsupportedFormat
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.loaders.strings import StringArray

STORIES = model_path("stories260K")
N_LAYERS, N_CTX, N_TURNS = 5, 512, 4
MATRICES = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate",
            "ffn_down", "ffn_up")  # fmt: skip


def checkpoint(folder: Path, *, raw_bytes: bool = False, untied: bool = False) -> Path:
    """Write stories260K as llama2.c has it, from its GGUF file."""
    with GGUFFile(STORIES) as file:

        def read(name: str) -> bytes:
            return file.data(f"{name}.weight").tobytes()

        parts = [struct.pack("<7i", 64, 172, N_LAYERS, 8, 4, -512 if untied else 512, N_CTX)]
        parts.append(read("token_embd"))
        parts += [read(f"blk.{i}.{name}") for name in MATRICES for i in range(N_LAYERS)]
        parts += [read("output_norm"), bytes(2 * 4 * N_CTX * N_TURNS)]
        parts += [read("token_embd")] * untied
        texts = file.metadata["tokenizer.ggml.tokens"]
        scores = file.metadata["tokenizer.ggml.scores"]
    (folder / "tokenizer.bin").write_bytes(vocabulary(texts, scores, raw_bytes))
    path = folder / "stories.bin"
    path.write_bytes(b"".join(parts))
    return path


def vocabulary(texts: Any, scores: Any, raw_bytes: bool) -> bytes:
    """Write tokenizer.bin; older ones hold bytes instead of the names of bytes."""
    parts = [struct.pack("<i", 7)]
    for i, (text, score) in enumerate(zip(texts, scores, strict=True)):
        data = text.replace("▁", " ").encode()
        if raw_bytes and 3 <= i < 259:
            data = bytes([i - 3])
        parts += [struct.pack("<fi", score, len(data)), data]
    return b"".join(parts)


def contents(path: Path) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
    with GGUFFile(path) as file:
        values = {
            key: list(value) if isinstance(value, np.ndarray | StringArray) else value
            for key, value in file.metadata.items()
        }
        return values, {
            name: (info.type_name, info.shape, file.data(name).tobytes())
            for name, info in file.tensors.items()
        }


@pytest.mark.parametrize("raw_bytes", [False, True])
def test_the_same_model_again(tmp_path: Path, raw_bytes: bool) -> None:
    source = checkpoint(tmp_path, raw_bytes=raw_bytes)
    made = jitllm.convert(source, outtype="f32", name="llama2c", progress=False)
    assert made.path == tmp_path / "stories-F32.gguf"
    values, tensors = contents(made.path)
    expected_values, expected_tensors = contents(STORIES)
    assert values == expected_values
    assert tensors == expected_tensors


def test_output_of_its_own(tmp_path: Path) -> None:
    made = jitllm.convert(checkpoint(tmp_path, untied=True), tmp_path / "a.gguf", progress=False)
    assert made.outtype == "F16"
    tensors = contents(made.path)[1]
    assert tensors["output.weight"] == tensors["token_embd.weight"]


@pytest.mark.parametrize(
    ("file", "change", "error", "message"),
    [
        ("stories.bin", lambda data: data[:-4], ModelFormatError, "not complete"),
        ("stories.bin", lambda data: data[:20], ModelFormatError, "20 bytes"),
        ("stories.bin", lambda data: b"24ka" + data[4:], UnsupportedFormat, "version 0"),
        ("stories.bin", lambda data: bytes(4) + data[4:], ModelFormatError, "sizes"),
        ("tokenizer.bin", lambda data: data[:-1], ModelFormatError, "512 tokens"),
        ("tokenizer.bin", lambda data: data[:8] + b"\xff" * 4 + data[12:], ModelFormatError, "512"),
    ],
)
def test_damaged(
    tmp_path: Path, file: str, change: Callable[[bytes], bytes], error: type, message: str
) -> None:
    source = checkpoint(tmp_path)
    path = tmp_path / file
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(error, match=message):
        jitllm.convert(source, tmp_path / "a.gguf", progress=False)
    assert not (tmp_path / "a.gguf").exists()


def test_vocabulary_elsewhere(tmp_path: Path) -> None:
    source = checkpoint(tmp_path)
    (tmp_path / "tokenizer.bin").rename(tmp_path / "tok512.bin")
    with pytest.raises(ModelNotFoundError, match="tokenizer.bin"):
        jitllm.convert(source, progress=False)
    made = jitllm.convert(source, tokenizer=tmp_path / "tok512.bin", progress=False)
    with jitllm.load(made.path, progress=False, device="reference") as model:
        text = model.generate("Once upon a time", max_tokens=3, temperature=0).text
    assert text == ", there was"


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_folder("qwen3", tmp_path)
    pre = FOLDERS["qwen3"].pre
    target = tmp_path / "new.gguf"
    given = ["convert", str(folder), "--outfile", str(target), "--outtype", "q8_0", "-q"]
    assert main([*given, "--pre", pre, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"token_embd.weight +288 x 64 +Q8_0\n", out) and "nothing written" in out
    assert not target.exists()
    assert main([*given, "--pre", pre, "--name", "Mine"]) == 0
    assert re.search(r"new.gguf: qwen3, \d+ tensors, .* \(Q8_0\)", capsys.readouterr().out)
    assert contents(target)[0]["general.name"] == "Mine"
    assert main(given) == 1
    assert "--pre" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "nowhere")]) == 2
