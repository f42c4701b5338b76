"""GGUF files: what a writer of others wrote is read back; what is wrong is refused by name."""

import mmap
import os
import struct
import sys
import time
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from models import model_path
from raw_gguf import (
    ARRAY,
    BOOL,
    FLOAT32,
    STRING,
    UINT8,
    UINT16,
    UINT32,
    array,
    gguf_bytes,
    pair,
    tensor,
    text,
    u16,
    u32,
)
from tiny import (
    conformance_golden,
    conformance_model,
    conformance_names,
    conformance_weights,
    write_gguf,
)

from jitllm.kernels.formats.ids import TENSOR_TYPES, TYPE_NAMES
from jitllm.llm.errors import ClosedError, GGUFError, ModelNotFoundError
from jitllm.llm.loaders.gguf import GGUFFile, StringArray
from jitllm.llm.loaders.splits import split_names

SCALARS: dict[str, Any] = {
    "u8": np.uint8(200),
    "i8": np.int8(-100),
    "u16": np.uint16(60000),
    "i16": np.int16(-30000),
    "u32": np.uint32(4_000_000_000),
    "i32": np.int32(-2_000_000_000),
    "f32": np.float32(0.1),
    "bool": np.bool_(True),
    "u64": np.uint64(2**64 - 1),
    "i64": np.int64(-(2**63)),
    "f64": np.float64(0.1),
}
ROW = np.arange(64, dtype=np.float32)


def save(folder: Path, content: bytes, name: str = "model.gguf") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", SCALARS)
def test_scalar_types(tmp_path: Path, name: str) -> None:
    path = write_gguf(tmp_path / "m.gguf", {"test.key": SCALARS[name]})
    with GGUFFile(path) as file:
        value = file.metadata["test.key"]
        assert value == SCALARS[name].item()
        assert type(value) is type(SCALARS[name].item())


@pytest.mark.parametrize("name", SCALARS)
def test_array_types(tmp_path: Path, name: str) -> None:
    scalar = SCALARS[name]
    expected = np.array([scalar, 0, scalar, 1, 0], scalar.dtype)
    path = write_gguf(tmp_path / "m.gguf", {"odd": "x", "test.key": expected})
    with GGUFFile(path) as file:
        value = file.get("test.key", np.ndarray)
    assert value.dtype == expected.dtype
    np.testing.assert_array_equal(value, expected)


def test_strings(tmp_path: Path) -> None:
    tokens: list[Any] = ["a", "", "ü€😀", b"\xff\xfe", "end"]
    path = write_gguf(tmp_path / "m.gguf", {"name": "größe", "tokens": tokens, "x": 1})
    with GGUFFile(path) as file:
        assert file.get("general.architecture", str) == "llama"
        assert file.get("name", str) == "größe"
        assert file.get("x", int) == 1
        strings = file.get("tokens", StringArray)
    assert len(strings) == 5
    assert strings[2] == "ü€😀"
    assert strings[-1] == "end"
    assert strings[:3] == ["a", "", "ü€😀"]
    assert strings.raw(3) == strings.raw(-2) == b"\xff\xfe"
    assert strings.raw_list() == [b"a", b"", "ü€😀".encode(), b"\xff\xfe", b"end"]
    with pytest.raises(GGUFError, match="key 'tokens': expected UTF-8 in string 3"):
        list(strings)
    with pytest.raises(IndexError, match="expected an index below 5, got 5"):
        strings[5]


def test_string_arrays_compare_as_lists_do(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", {"a": ["x", "yz"], "b": ["x", "yz"], "c": ["xy", "z"]})
    with GGUFFile(path) as file:
        a, b, c = (file.metadata[key] for key in "abc")
    assert a == b == ["x", "yz"]
    assert a != c


@pytest.mark.parametrize("kind", [UINT8, FLOAT32, BOOL, STRING])
def test_empty_arrays(tmp_path: Path, kind: int) -> None:
    path = save(tmp_path, gguf_bytes([pair(b"a", ARRAY, array(kind, 0, b""))]))
    with GGUFFile(path) as file:
        value = file.metadata["a"]
        assert isinstance(value, np.ndarray | StringArray)
        assert len(value) == 0
        assert list(value) == []


def test_version_2_made_by_hand(tmp_path: Path) -> None:
    pairs = [pair(b"general.architecture", STRING, text(b"llama")), pair(b"n", UINT32, u32(7))]
    infos = [tensor(b"a", [64], 0, 0), tensor(b"b", [2, 3], 1, 256)]
    half = np.arange(6, dtype=np.float16)
    path = save(tmp_path, gguf_bytes(pairs, infos, ROW.tobytes() + half.tobytes(), version=2))
    with GGUFFile(path) as file:
        assert file.version == 2
        assert dict(file.metadata) == {"general.architecture": "llama", "n": 7}
        assert file.tensors["b"].shape == (3, 2)
        assert file.tensors["b"].type_name == "F16"
        np.testing.assert_array_equal(file.data("a").view(np.float32), ROW)
        np.testing.assert_array_equal(file.data("b").view(np.float16), half)


@pytest.mark.parametrize("alignment", [8, 32, 128, 4096])
def test_tensors_and_alignment(tmp_path: Path, alignment: int) -> None:
    blocks = np.arange(3 * 144, dtype=np.uint8).reshape(3, 144)
    odd = np.arange(5, dtype=np.float32)
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    path = write_gguf(
        tmp_path / "m.gguf",
        {"general.alignment": alignment},
        {"odd": odd, "q": ("Q4_K", blocks, (3, 256)), "m": matrix},
    )
    with GGUFFile(path) as file:
        assert [(t.name, t.shape, t.type_name, t.nbytes) for t in file.tensors.values()] == [
            ("odd", (5,), "F32", 20),
            ("q", (3, 256), "Q4_K", 432),
            ("m", (2, 3), "F32", 24),
        ]
        assert all(info.offset % alignment == 0 for info in file.tensors.values())
        np.testing.assert_array_equal(file.data("odd").view(np.float32), odd)
        np.testing.assert_array_equal(file.data("q").reshape(3, 144), blocks)
        np.testing.assert_array_equal(file.data("m").view(np.float32).reshape(2, 3), matrix)


def test_type_table_agrees_with_the_gguf_package() -> None:
    assert len(TENSOR_TYPES) == len(TYPE_NAMES) == 35
    for kind, size in gguf.GGML_QUANT_SIZES.items():
        # the package pads Q8_1, which no file holds, to two float32
        expected = (32, 36) if kind.name == "Q8_1" else size
        assert TENSOR_TYPES[kind.name] == (kind.value, *expected)


@pytest.mark.parametrize("name", TENSOR_TYPES)
def test_every_type_is_laid_out(tmp_path: Path, name: str) -> None:
    type_id, block_size, block_bytes = TENSOR_TYPES[name]
    info = tensor(b"t", [2 * block_size, 3], type_id, 0)
    path = save(tmp_path, gguf_bytes([], [info], bytes(6 * block_bytes)))
    with GGUFFile(path) as file:
        assert file.tensors["t"].type_name == name
        assert file.tensors["t"].nbytes == len(file.data("t")) == 6 * block_bytes


def test_data_is_read_only_and_outlives_close() -> None:
    path = model_path("stories260K")
    file = GGUFFile(path)
    view = file.data("output_norm.weight")
    expected = np.array(view)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    file.release("output_norm.weight")
    np.testing.assert_array_equal(view, expected)
    file.close()
    file.close()
    np.testing.assert_array_equal(view, expected)
    assert len(file.get("tokenizer.ggml.tokens", StringArray)) == 512
    with pytest.raises(ClosedError, match="was closed"):
        file.data("output_norm.weight")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/smaps")
def test_release_gives_pages_back(tmp_path: Path) -> None:
    megabytes = np.zeros((4, 1 << 20), np.uint8)
    path = write_gguf(tmp_path / "m.gguf", {}, {"a": ("I8", megabytes, megabytes.shape)})
    with GGUFFile(path) as file:
        np.array(file.data("a"))
        assert _resident_kb(path) >= 4096
        file.release("a")
        assert _resident_kb(path) <= mmap.PAGESIZE // 1024


def _resident_kb(path: Path) -> int:
    lines = Path("/proc/self/smaps").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.endswith(str(path)))
    rss = next(line for line in lines[start:] if line.startswith("Rss:"))
    return int(rss.split()[1])


def test_tensor_agrees_with_the_gguf_package() -> None:
    path = model_path("stories260K")
    reader = gguf.GGUFReader(path)
    with GGUFFile(path) as file:
        assert list(file.tensors) == [t.name for t in reader.tensors]
        for t in reader.tensors:
            info = file.tensors[t.name]
            assert info.shape == tuple(int(d) for d in reversed(t.shape))
            assert info.offset == t.data_offset
            np.testing.assert_array_equal(file.data(t.name), t.data.view(np.uint8).reshape(-1))


def test_get_names_what_it_expected(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", {"n": 3, "flag": True, "s": "x" * 500, "f": 0.5})
    with GGUFFile(path) as file:
        assert file.get("n", float) == 3.0
        assert isinstance(file.get("n", float), float)
        assert file.get("flag", bool) is True
        assert file.get("absent", int, None) is None
        assert file.get("absent", int, 5) == 5
        with pytest.raises(GGUFError, match="key 'absent': expected int, got no key"):
            file.get("absent", int)
        with pytest.raises(GGUFError, match="key 's': expected int, got str 'xxx") as error:
            file.get("s", int)
        assert len(str(error.value)) < len(str(path)) + 200
        with pytest.raises(GGUFError, match="key 'flag': expected int, got bool True"):
            file.get("flag", int)
        with pytest.raises(GGUFError, match="key 'f': expected an array of strings, got float"):
            file.get("f", StringArray, None)
        with pytest.raises(GGUFError, match="expected a tensor named 'no', got none among its 0"):
            file.data("no")


GOOD = tensor(b"a", [64], 0, 0)
HUGE = 2**64 - 1
WRONG = {
    "empty file": (b"", "got an empty file"),
    "no magic": (b"GGML" + bytes(40), "magic .*expected b'GGUF', got b'GGML'"),
    "cut in the magic": (b"GG", "expected b'GGUF', got b'GG'"),
    "version 1": (gguf_bytes(version=1), "version .*expected 2 or 3, got 1"),
    "version 4": (gguf_bytes(version=4), "version .*expected 2 or 3, got 4"),
    "big-endian": (gguf_bytes(version=3 << 24), "big-endian"),
    "cut in the header": (gguf_bytes()[:20], "number of metadata keys .*expected 8 more bytes"),
    "many tensors": (gguf_bytes(n_tensors=HUGE), "number of tensors .*expected at most 0"),
    "many keys": (gguf_bytes(n_pairs=HUGE), "number of metadata keys .*expected at most 0"),
    "more keys than there are": (
        gguf_bytes([pair(b"a" * 20, UINT32, u32(1))], n_pairs=2),
        "metadata key 1",
    ),
    "long key": (
        gguf_bytes([text(b"key", HUGE) + bytes(20)]),
        "metadata key 0 .*expected at most 65535 bytes",
    ),
    "key of other bytes": (gguf_bytes([pair(b"\xff", UINT8, b"1")]), "metadata key 0 .*UTF-8"),
    "key twice": (gguf_bytes([pair(b"k", UINT8, b"1")] * 2), "key 'k' .*got it twice"),
    "value type 13": (gguf_bytes([pair(b"k", 13, bytes(8))]), "key 'k' .*from 0 to 12, got 13"),
    "cut value": (
        gguf_bytes([pair(b"k", UINT32, b"12")]),
        "key 'k' .*expected 4 more bytes, got 2",
    ),
    "long string": (
        gguf_bytes([pair(b"k", STRING, text(b"abc", 2**40))]),
        "key 'k' .*expected 1099511627776 more bytes, got 3",
    ),
    "string of other bytes": (gguf_bytes([pair(b"k", STRING, text(b"\xff"))]), "key 'k' .*UTF-8"),
    "long array": (
        gguf_bytes([pair(b"k", ARRAY, array(UINT32, 2**62, b"1234"))]),
        "key 'k' .*more bytes, got 4",
    ),
    "array of arrays": (
        gguf_bytes([pair(b"k", ARRAY, array(ARRAY, 1, array(UINT8, 1, b"1")))]),
        "key 'k' .*arrays of arrays",
    ),
    "array of type 99": (gguf_bytes([pair(b"k", ARRAY, array(99, 0, b""))]), "key 'k' .*got 99"),
    "many strings": (
        gguf_bytes([pair(b"k", ARRAY, array(STRING, HUGE, text(b"a")))]),
        "key 'k' .*more bytes, got 9",
    ),
    "strings past the end": (
        gguf_bytes([pair(b"k", ARRAY, array(STRING, 2, text(b"abcdefgh", 9000) + text(b"")))]),
        "key 'k' .*string 1 of 2 leads out",
    ),
    "last string past the end": (
        gguf_bytes([pair(b"k", ARRAY, array(STRING, 2, text(b"") + text(b"a", 2)))]),
        "key 'k' .*string 1 of 2 leads out",
    ),
    "string length past any address": (
        gguf_bytes([pair(b"k", ARRAY, array(STRING, 2, text(b"abcdefgh", HUGE) + text(b"")))]),
        "key 'k' .*leads out",
    ),
    "alignment 0": (
        gguf_bytes([pair(b"general.alignment", UINT32, u32(0))]),
        "'general.alignment' .*power of two, got 0",
    ),
    "alignment 48": (
        gguf_bytes([pair(b"general.alignment", UINT32, u32(48))]),
        "'general.alignment' .*power of two, got 48",
    ),
    "alignment of another type": (
        gguf_bytes([pair(b"general.alignment", UINT16, u16(32))]),
        "'general.alignment' .*uint32",
    ),
    "tensor twice": (
        gguf_bytes([], [GOOD, tensor(b"a", [1], 0, 256)], bytes(300)),
        "tensor 'a' .*got it twice",
    ),
    "tensor name of 64 bytes": (
        gguf_bytes([], [tensor(b"n" * 64, [1], 0, 0)], bytes(4)),
        "name of tensor 0 .*at most 63 bytes, got 64",
    ),
    "5 dimensions": (
        gguf_bytes([], [tensor(b"a", [1] * 5, 0, 0)], bytes(4)),
        "tensor 'a' .*at most 4 dimensions, got 5",
    ),
    "2**32 - 1 dimensions": (
        gguf_bytes([], [tensor(b"a", [1], 0, 0, n_dims=2**32 - 1)], bytes(4)),
        "tensor 'a' .*at most 4 dimensions",
    ),
    "dimensions that overflow": (
        gguf_bytes([], [tensor(b"a", [2**32, 2**32], 0, 0)], bytes(4)),
        "tensor 'a' .*fewer than 2",
    ),
    "negative dimension": (
        gguf_bytes([], [tensor(b"a", [HUGE, 0], 0, 0)], bytes(4)),
        "tensor 'a' .*fewer than 2",
    ),
    "withdrawn type": (
        gguf_bytes([], [tensor(b"a", [32], 4, 0)], bytes(64)),
        "tensor 'a' .*known tensor type, got 4",
    ),
    "negative type": (
        gguf_bytes([], [tensor(b"a", [32], -1, 0)], bytes(64)),
        "tensor 'a' .*known tensor type, got -1",
    ),
    "half a block": (
        gguf_bytes([], [tensor(b"a", [48], 8, 0)], bytes(64)),
        "tensor 'a' .*whole Q8_0 blocks of 32",
    ),
    "first offset": (
        gguf_bytes([], [tensor(b"a", [1], 0, 32)], bytes(64)),
        "tensor 'a' .*expected offset 0, right after the tensor before, got 32",
    ),
    "overlap": (
        gguf_bytes([], [GOOD, tensor(b"b", [1], 0, 0)], bytes(300)),
        "tensor 'b' .*expected offset 256, .*got 0",
    ),
    "cut data": (
        gguf_bytes([], [GOOD], bytes(255)),
        "data of tensor 'a' .*expected a file of 320 bytes or more, got 319",
    ),
    "no data": (gguf_bytes([], [GOOD]), "data of tensor 'a' .*truncated"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    content, message = WRONG[name]
    path = save(tmp_path, content)
    with pytest.raises(GGUFError, match=message) as error:
        GGUFFile(path)
    assert str(path) in str(error.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="got no file"):
        GGUFFile(tmp_path / "absent.gguf")
    with pytest.raises(GGUFError, match="got a folder"):
        GGUFFile(tmp_path)
    with pytest.raises(ValueError, match="empty sequence"):
        GGUFFile([])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(GGUFError, match="neither a file nor a folder"):
        GGUFFile(tmp_path / "pipe")


def split_bytes(no: int, count: int, total: int, names: list[bytes]) -> bytes:
    pairs = [
        pair(b"split.no", UINT16, u16(no)),
        pair(b"split.count", UINT16, u16(count)),
        pair(b"split.tensors.count", UINT32, u32(total)),
    ]
    infos = [tensor(name, [64], 0, 256 * i) for i, name in enumerate(names)]
    data = b"".join(struct.pack("<64f", *[ord(name)] * 64) for name in names)
    return gguf_bytes(pairs, infos, data)


def save_splits(folder: Path, *contents: bytes) -> list[Path]:
    names = split_names("big", len(contents))
    return [save(folder, c, name) for c, name in zip(contents, names, strict=True)]


def test_splits_are_found_by_name(tmp_path: Path) -> None:
    paths = save_splits(
        tmp_path,
        split_bytes(0, 3, 4, []),
        split_bytes(1, 3, 4, [b"a", b"b"]),
        split_bytes(2, 3, 4, [b"c", b"d"]),
    )
    with GGUFFile(paths[0]) as file:
        assert file.paths == tuple(paths)
        assert {name: info.file for name, info in file.tensors.items()} == dict(a=1, b=1, c=2, d=2)
        for name in "abcd":
            assert set(file.data(name).view(np.float32)) == {ord(name)}
            file.release(name)


def test_splits_of_other_names_open_by_their_paths(tmp_path: Path) -> None:
    one = save(tmp_path, split_bytes(0, 2, 2, [b"a"]), "one.gguf")
    two = save(tmp_path, split_bytes(1, 2, 2, [b"b"]), "two.gguf")
    with GGUFFile([one, two]) as file:
        assert set(file.data("b").view(np.float32)) == {ord("b")}
    with pytest.raises(GGUFError, match="expected a name that ends in '-00001-of-00002.gguf'"):
        GGUFFile(one)
    with pytest.raises(GGUFError, match="key 'split.no': expected 0, got 1"):
        GGUFFile([two, one])
    with pytest.raises(GGUFError, match="'split.count': expected 2 files, got 3"):
        GGUFFile([one, two, two])


WRONG_SPLITS = {
    "split.no": ([(0, 2, 2, [b"a"]), (0, 2, 2, [b"b"])], "'split.no': expected 1, got 0"),
    "split.count": ([(0, 2, 2, [b"a"]), (1, 3, 2, [b"b"])], "'split.count': expected 2, got 3"),
    "total": ([(0, 2, 3, [b"a"]), (1, 2, 2, [b"b"])], "expected 3 tensors in all splits, got 2"),
    "tensor twice": ([(0, 2, 2, [b"a"]), (1, 2, 2, [b"a"])], "tensor 'a': expected it in one"),
    "name": ([(0, 3, 2, [b"a"]), (1, 3, 2, [b"b"])], "ends in '-00001-of-00003.gguf'"),
}


@pytest.mark.parametrize("name", WRONG_SPLITS)
def test_wrong_splits_are_refused(tmp_path: Path, name: str) -> None:
    parts, message = WRONG_SPLITS[name]
    paths = save_splits(tmp_path, *(split_bytes(*part) for part in parts))
    with pytest.raises(GGUFError, match=message):
        GGUFFile(paths[0])


def test_only_the_first_split_opens_a_model(tmp_path: Path) -> None:
    paths = save_splits(tmp_path, split_bytes(0, 2, 2, [b"a"]), split_bytes(1, 2, 2, [b"b"]))
    with pytest.raises(GGUFError, match="got number 2; open big-00001-of-00002.gguf"):
        GGUFFile(paths[1])
    paths[1].unlink()
    with pytest.raises(ModelNotFoundError, match="big-00002-of-00002.gguf"):
        GGUFFile(paths[0])


def test_split_count_of_a_wrong_type(tmp_path: Path) -> None:
    path = save(tmp_path, gguf_bytes([pair(b"split.count", STRING, text(b"2"))]))
    with pytest.raises(GGUFError, match="'split.count': expected a count, got '2'"):
        GGUFFile(path)


def test_vocabulary_of_262144_tokens(tmp_path: Path) -> None:
    tokens = [f"token-{i}".encode() for i in range(262_144)]
    flat = b"".join(text(token) for token in tokens)
    scores = np.arange(len(tokens), dtype="<f4")
    pairs = [
        pair(b"tokenizer.ggml.tokens", ARRAY, array(STRING, len(tokens), flat)),
        pair(b"tokenizer.ggml.scores", ARRAY, array(FLOAT32, len(tokens), scores.tobytes())),
    ]
    path = save(tmp_path, gguf_bytes(pairs))
    start = time.perf_counter()
    with GGUFFile(path) as file:
        read = file.get("tokenizer.ggml.tokens", StringArray).raw_list()
        read_scores = file.get("tokenizer.ggml.scores", np.ndarray)
    seconds = time.perf_counter() - start
    sys.stdout.write(f"262,144 tokens opened and read in {seconds * 1e3:.0f} ms\n")
    assert read == tokens
    np.testing.assert_array_equal(read_scores, scores)


def test_conformance_data_is_whole(tmp_path: Path) -> None:
    names = conformance_names()
    assert len(names) == 274
    for name in names[::60]:
        tokens, logits = conformance_golden(name)
        outputs = 3072 if name.startswith("qwen3tts") else 128
        assert (tokens.shape, logits.shape) == ((28,), (16, outputs))
        assert tokens.min() >= 0 and tokens.max() < 128
        assert np.isfinite(logits).all()
        with GGUFFile(conformance_model(name, tmp_path / "m.gguf")) as file:
            embedding = file.tensors["token_embd.weight"]
            got = file.data("token_embd.weight").view(np.float32).reshape(embedding.shape)
            expected = conformance_weights("token_embd.weight", embedding.shape)
            np.testing.assert_array_equal(got, expected)
