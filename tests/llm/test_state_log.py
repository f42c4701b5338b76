"""Record logs: whole records or none, whatever happens to the file or while it is written."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jitllm.llm.errors import StateError
from jitllm.llm.state_files.log import ALIGNMENT, MAGIC, RecordLog

_SOME = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
_DTYPES = (np.uint8, np.uint32, np.int32, np.int64, np.float16, np.float32, np.float64)


def _arrays(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        f"a{i}": rng.integers(0, 100, tuple(rng.integers(0, 9, i % 4))).astype(dtype)
        for i, dtype in enumerate(_DTYPES)
    }


def _write(path: Path, seeds: list[int]) -> list[int]:
    """Append records; returns where each ends."""
    log, ends = RecordLog(path), []
    for seed in seeds:
        log.append({"seed": seed, "text": "ä" * seed}, _arrays(seed), sync=False)
        ends.append(log.end)
    return ends


def _check(path: Path, seeds: list[int]) -> RecordLog:
    log = RecordLog(path)
    assert [record.head["seed"] for record in log.records] == seeds
    for record in log.records:
        for name, array in _arrays(record.head["seed"]).items():
            found = log.read(record.entries[name])
            assert found.dtype == array.dtype
            np.testing.assert_array_equal(found, array)
    return log


def test_records_come_back(tmp_path: Path) -> None:
    path = tmp_path / "log"
    ends = _write(path, [1, 2, 3])
    assert all(end % ALIGNMENT == 0 for end in ends)
    assert _check(path, [1, 2, 3]).damages == []
    _write(path, [4])
    _check(path, [1, 2, 3, 4])


@_SOME
@given(data=st.data())
def test_a_file_cut_anywhere_keeps_what_was_whole(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "log"
    path.unlink(missing_ok=True)
    ends = _write(path, [1, 2, 3])
    length = data.draw(st.integers(ends[0], ends[-1]))
    os.truncate(path, length)
    whole = [seed for seed, end in zip((1, 2, 3), ends, strict=True) if end <= length]
    _check(path, whole)
    _write(path, [7])  # goes on behind the last whole record
    assert _check(path, [*whole, 7]).damages == []


@_SOME
@given(data=st.data())
def test_a_flipped_bit_costs_one_record(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "log"
    path.unlink(missing_ok=True)
    ends = _write(path, [1, 2, 3])
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    hit = next(seed for seed, end in zip((1, 2, 3), ends, strict=True) if place < end)
    log = RecordLog(path)
    for record in log.records:
        arrays = _arrays(record.head["seed"])
        for name, array in arrays.items():
            try:
                found = log.read(record.entries[name])
            except StateError:
                assert record.head["seed"] == hit
            else:
                np.testing.assert_array_equal(found, array)
    assert {1, 2, 3} - {record.head["seed"] for record in log.records} <= {hit}


@pytest.mark.parametrize("n_written", [0, 1, 63, 64, 65, 200, 500])
def test_a_full_disk_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_written: int
) -> None:
    path = tmp_path / "log"
    _write(path, [1])
    before, room, write = path.read_bytes(), [n_written], os.write

    def scarce(file: int, data: Any) -> int:
        part = bytes(data)[: room[0]]
        if not part:
            raise OSError(errno.ENOSPC, "no space left on device")
        room[0] -= len(part)
        return write(file, part)

    log = RecordLog(path)
    monkeypatch.setattr(os, "write", scarce)
    with pytest.raises(OSError, match="no space"):
        log.append({"seed": 2}, _arrays(2))
    assert path.read_bytes() == before
    monkeypatch.undo()
    log.append({"seed": 3}, _arrays(3))
    _check(path, [1, 3])


def test_other_files_are_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(StateError, match="expected a state file"):
        RecordLog(path)
    with pytest.raises(StateError, match="something else"):
        RecordLog(tmp_path)
    assert path.read_bytes() == b"GGUF" + bytes(100)


def test_a_newer_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    monkeypatch.setattr("jitllm.llm.state_files.versions.VERSION", 99)
    _write(path, [1])
    monkeypatch.undo()
    with pytest.raises(StateError, match="version 1 or older, got 99"):
        RecordLog(path)


@_SOME
@given(junk=st.binary(max_size=300), front=st.booleans())
def test_junk_is_refused_or_skipped(tmp_path: Path, junk: bytes, front: bool) -> None:
    path = tmp_path / "log"
    path.unlink(missing_ok=True)
    _write(path, [1])
    content = path.read_bytes()
    junk += bytes(-len(junk) % ALIGNMENT)
    path.write_bytes(MAGIC + junk[8:] + content if front and junk else content + junk)
    _check(path, [1])
