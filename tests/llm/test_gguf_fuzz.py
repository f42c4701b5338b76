"""Damaged GGUF files: each of 10,000 opens or raises GGUFError, in bounded time and memory."""

import faulthandler
import os
import random
import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import model_path
from raw_gguf import ARRAY, STRING, array, gguf_bytes, pair, tensor, text
from tiny import write_gguf

from jitllm.llm.errors import GGUFError
from jitllm.llm.loaders.gguf import GGUFFile, StringArray

HANG_S = 120
MEMORY_SLACK_BYTES = 512 * 1024  # Python's own objects, whatever the file
MEMORY_PER_BYTE = 3
EDGES = [0, 1, 31, 32, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**63]
EDGES += [2**64 - 1, 2**64 - 8]


@pytest.fixture(autouse=True)
def watched() -> Iterator[None]:
    """A hang ends the run with a traceback."""
    faulthandler.dump_traceback_later(HANG_S, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@contextmanager
def bounded_memory(size: int) -> Iterator[None]:
    """What runs inside may hold a few bytes of memory per byte of the file, and no more."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MEMORY_SLACK_BYTES + MEMORY_PER_BYTE * size
    finally:
        tracemalloc.stop()


def opens(path: Path, content: bytes, size: int | None = None) -> bool:
    """Whether a file of these bytes opens; anything but GGUFError goes through.

    A file that opens is read to its last byte. `size` adds a hole up to that size.
    """
    with open(path, "wb") as file:
        file.write(content)
        file.truncate(max(size or 0, len(content)))
    with bounded_memory(os.stat(path).st_size):
        try:
            with GGUFFile(path) as gguf:
                read_all(gguf)
        except GGUFError as error:
            assert str(path) in str(error)
            return False
    return True


def read_all(gguf: GGUFFile) -> None:
    for value in gguf.metadata.values():
        if isinstance(value, StringArray):
            assert len(value.raw_list()) == len(value)
    for name, info in gguf.tensors.items():
        assert gguf.data(name).shape == (info.nbytes,)
        np.bitwise_or.reduce(gguf.data(name)[-64:], initial=0)


def rich_file(path: Path) -> bytes:
    """A small valid file with every value type and several tensor types."""
    arrays = {f"a.{d}": np.arange(3, dtype=d) for d in ("u1", "i1", "<u2", "<i4", "<f4", "<u8")}
    write_gguf(
        path,
        {
            "general.alignment": 64,
            "text": "some text",
            "flag": True,
            "f": 0.5,
            "n": np.int64(-5),
            "tokens": [f"t{i}" for i in range(40)],
            "bools": np.array([True, False]),
            **arrays,
        },
        {
            "blk.0.w": np.ones((4, 8), np.float32),
            "blk.0.q": ("Q8_0", np.zeros((2, 34), np.uint8), (2, 32)),
            "blk.0.k": ("Q4_K", np.zeros((1, 144), np.uint8), (1, 256)),
        },
    )
    return path.read_bytes()


def mutate(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(data))
        match rng.randrange(6):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                data[at] ^= 1 << rng.randrange(8)
            case 2:
                data[at : at + 8] = struct.pack("<Q", rng.choice(EDGES))
            case 3:
                data[at : at + 4] = struct.pack("<I", rng.choice(EDGES) & 0xFFFFFFFF)
            case 4:
                del data[at : at + rng.randrange(1, 16)]
            case 5:
                data[at:at] = data[at : at + rng.randrange(1, 64)]
    return bytes(data) if rng.random() < 0.8 else bytes(data[: rng.randrange(len(data))])


@pytest.mark.parametrize(
    "count", [pytest.param(800, id="fast"), pytest.param(4000, id="all", marks=pytest.mark.slow)]
)
def test_damaged_files(tmp_path: Path, count: int) -> None:
    rng = random.Random(count)
    content = rich_file(tmp_path / "good.gguf")
    assert opens(tmp_path / "m.gguf", content)
    opened = sum(opens(tmp_path / "m.gguf", mutate(content, rng)) for _ in range(count))
    assert 0 < opened < count // 2  # some damage is in a value, most is noticed


@pytest.mark.parametrize(
    "count", [pytest.param(700, id="fast"), pytest.param(4000, id="all", marks=pytest.mark.slow)]
)
def test_damaged_front_of_a_real_model(tmp_path: Path, count: int) -> None:
    rng = random.Random(count)
    path = model_path("stories260K")
    with GGUFFile(path) as file:
        front = path.read_bytes()[: min(info.offset for info in file.tensors.values())]
    size = path.stat().st_size
    assert opens(tmp_path / "m.gguf", front, size)
    opened = sum(opens(tmp_path / "m.gguf", mutate(front, rng), size) for _ in range(count))
    assert 0 < opened < count


def test_every_truncation(tmp_path: Path) -> None:
    """A file that ends early never opens, wherever it ends."""
    content = rich_file(tmp_path / "good.gguf")
    with GGUFFile(tmp_path / "good.gguf") as file:
        end = max(info.offset + info.nbytes for info in file.tensors.values())
    assert opens(tmp_path / "m.gguf", content[:end])
    lengths = [*range(0, end, 7), end - 1]
    assert not any(opens(tmp_path / "m.gguf", content[:length]) for length in lengths)


edges = st.sampled_from(EDGES)
small = st.integers(0, 5)
u64 = st.one_of(small, small, edges)
i32 = st.one_of(st.integers(0, 42), st.integers(-(2**31), 2**31 - 1))
u32 = st.one_of(st.integers(0, 13), st.integers(0, 2**32 - 1))
keys = st.sampled_from([b"a", b"b", b"general.alignment", b"split.count", b"split.no", b"\xff"])


@st.composite
def strings(draw: st.DrawFn) -> bytes:
    value = draw(st.binary(max_size=12))
    return text(value, draw(st.one_of(st.none(), st.none(), u64)))


@st.composite
def arrays(draw: st.DrawFn) -> bytes:
    kind = draw(st.one_of(st.just(STRING), st.integers(0, 13), u32))
    items = draw(st.lists(strings() if kind == STRING else st.binary(max_size=8), max_size=5))
    return array(kind, draw(st.one_of(st.just(len(items)), u64)), b"".join(items))


@st.composite
def pairs(draw: st.DrawFn) -> bytes:
    kind = draw(u32)
    payloads = {STRING: strings(), ARRAY: arrays()}
    return pair(draw(keys), kind, draw(payloads.get(kind, st.binary(max_size=9))))


@st.composite
def tensors(draw: st.DrawFn) -> bytes:
    name = draw(st.one_of(st.sampled_from([b"a", b"b"]), st.binary(max_size=70)))
    dims = draw(st.lists(st.one_of(st.sampled_from([1, 32, 256]), u64), max_size=5))
    n_dims = draw(st.one_of(st.none(), st.none(), u32))
    return tensor(name, dims, draw(i32), draw(st.one_of(st.just(0), u64)), n_dims)


files = st.builds(
    gguf_bytes,
    st.lists(pairs(), max_size=4),
    st.lists(tensors(), max_size=3),
    st.binary(max_size=300),
    version=st.one_of(st.just(3), st.just(2), u32),
    n_pairs=st.one_of(st.none(), st.none(), u64),
    n_tensors=st.one_of(st.none(), st.none(), u64),
)


@pytest.mark.parametrize(
    "count", [pytest.param(500, id="fast"), pytest.param(2000, id="all", marks=pytest.mark.slow)]
)
def test_structured_nonsense(tmp_path: Path, count: int) -> None:
    opened = []

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(files)
    def check(content: bytes) -> None:
        opened.append(opens(tmp_path / "m.gguf", content))

    check()
    assert len(opened) >= count
    assert count // 50 < sum(opened) < count * 3 // 4  # both outcomes are common


def test_a_file_full_of_empty_strings(tmp_path: Path) -> None:
    """The most strings a file can hold: still only a few bytes of memory per byte of file."""
    count = 400_000
    content = gguf_bytes([pair(b"k", ARRAY, array(STRING, count, bytes(8 * count)))])
    (tmp_path / "m.gguf").write_bytes(content)
    with bounded_memory(len(content)), GGUFFile(tmp_path / "m.gguf") as file:
        assert len(file.get("k", StringArray)) == count
