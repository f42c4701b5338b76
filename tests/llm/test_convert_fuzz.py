"""Damaged safetensors files and SentencePiece models: all are read or refused, nothing else."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from conversions.folder import weights, write_safetensors
from conversions.tokenizers import sentencepiece as write_sentencepiece
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jitllm.llm.convert import _safetensors as safetensors
from jitllm.llm.convert import _sentencepiece as sentencepiece
from jitllm.llm.convert._source import Source
from jitllm.llm.errors import JitllmError

_FEW = settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
_EDGES = [0, 1, 7, 8, 255, 2**31 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
_NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from(_EDGES))
_ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
_TYPES = st.sampled_from(["F32", "F16", "BF16", "F64", "I64", "U8", "F8_E4M3", "f32", ""])
_INFOS = st.fixed_dictionaries(
    {},
    optional={
        "dtype": _TYPES | _ANY,
        "shape": st.lists(st.integers(-1, 4) | _NUMBERS, max_size=4) | _ANY,
        "data_offsets": st.lists(st.integers(-1, 64) | _NUMBERS, max_size=3) | _ANY,
    },
)
_HEADERS = st.dictionaries(st.text(max_size=8), _INFOS | _ANY, max_size=4) | _ANY


def _read(folder: Path, content: bytes) -> dict[str, np.ndarray[Any, Any]] | None:
    """The tensors in a file of these bytes; None if it is refused, as it should be."""
    (folder / "model.safetensors").write_bytes(content)
    try:
        found = safetensors.read_folder(folder)
        return {name: weight.array() for name, weight in found.items()}
    except JitllmError as error:
        assert "model.safetensors" in str(error)
        return None


def _file(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


@_FEW
@given(header=_HEADERS, data=st.binary(max_size=64))
@example(
    header={"a": {"dtype": "F32", "shape": [2**31, 2**31, 4], "data_offsets": [0, 0]}}, data=b""
)
@example(header={"a": {"dtype": "F32", "shape": [float("inf")], "data_offsets": [0, 4]}}, data=b"")
@example(header={"a": {"dtype": ["F32"], "shape": [], "data_offsets": [0, 4]}}, data=bytes(4))
@example(header={"a": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]}}, data=bytes(4))
@example(header={"a": {"dtype": "F32", "shape": "1", "data_offsets": "04"}}, data=bytes(4))
@example(header={"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, data=bytes(4))
@example(header={"a": {"dtype": "F32", "shape": [0] * 80, "data_offsets": [0, 0]}}, data=b"")
def test_any_header(header: Any, data: bytes, tmp_path: Path) -> None:
    read = _read(tmp_path, _file(json.dumps(header).encode(), data))
    for name, array in (read or {}).items():
        info = header[name]
        assert all(type(n) is int for n in (*info["shape"], *info["data_offsets"]))
        assert array.shape == tuple(info["shape"])
        assert info["data_offsets"][1] <= len(data)


@_FEW
@given(content=st.binary(max_size=200), length=st.sampled_from([None, *_EDGES]))
@example(content=b"[" * 100_000, length=None)
@example(content=b'{"a":' * 20_000, length=None)
def test_any_bytes(content: bytes, length: int | None, tmp_path: Path) -> None:
    assert not _read(tmp_path, _file(content, length=length))


@_FEW
@given(data=st.data())
def test_whole_files_with_other_bytes(data: st.DataObject, tmp_path: Path) -> None:
    shapes = {"a.weight": (3, 4), "b.bias": (5,), "c": (1, 2)}
    tensors = {name: weights(name, shape) for name, shape in shapes.items()}
    kinds = dict(zip(shapes, ("BF16", "F32", "F16"), strict=True))
    write_safetensors(tmp_path / "model.safetensors", tensors, kinds)
    content = bytearray((tmp_path / "model.safetensors").read_bytes())
    assert set(_read(tmp_path, bytes(content)) or {}) == set(shapes)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([0, 1, 8, 40, len(content) - 10]))
    _read(tmp_path, bytes(content[: len(content) - cut]))


@_FEW
@given(data=st.data())
def test_sentencepiece_models_with_other_bytes(data: st.DataObject, tmp_path: Path) -> None:
    write_sentencepiece(tmp_path, {})
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    content = bytearray((tmp_path / "tokenizer.model").read_bytes())
    for _ in range(data.draw(st.integers(1, 20))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "tokenizer.model").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        sentencepiece.read_pieces(Source(tmp_path))
    except JitllmError as error:
        assert "tokenizer.model" in str(error)
