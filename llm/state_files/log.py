"""A file of records that only grows: each has a JSON head and arrays, and is there whole or not.

`docs/STATE.md` describes the bytes. A record ends the file until its last byte is written, so what
was there before survives a crash, a full disk or an interrupt at any point.
"""

import json
import mmap
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from jitllm.llm.errors import StateError
from jitllm.llm.state_files import versions
from jitllm.llm.state_files.locked import locked, stamp, sync_folder

Array = npt.NDArray[Any]
_Result = TypeVar("_Result")

MAGIC = b"JITSTATE"
ALIGNMENT = 64

_HEAD = struct.Struct("<8sIIQQ28xI")  # magic, version, JSON's CRC, JSON bytes, data bytes, own CRC
_MAX_JSON = 1 << 30
_NO_FILE = 0, 0, 0
_MOST_TRIES = 100
_DTYPES = {
    "U8": np.uint8, "U32": np.uint32, "I32": np.int32, "I64": np.int64, "F16": np.float16,
    "F32": np.float32, "F64": np.float64,
}  # fmt: skip
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Entry:
    """Where an array of a record lies: `start` counts from the file's first byte."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    nbytes: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Record:
    """A record: its place, its version, what its JSON head says, its arrays by name."""

    offset: int
    nbytes: int
    version: int
    head: Mapping[str, Any]
    entries: Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class Damage:
    """A place in a file that cannot be read, and why."""

    offset: int
    reason: str


class FileChanged(StateError):
    """Raised where a file is not what was read any more."""


def again_if_changed(action: Callable[[], _Result]) -> _Result:
    """Read a file and change it, and do so again while other writers come first.

    Parameters
    ----------
    action : callable
        Raises FileChanged where another writer came first.

    Raises
    ------
    FileChanged
        If that is so a hundred times.
    """
    for _ in range(_MOST_TRIES - 1):
        with suppress(FileChanged):
            return action()
    return action()


class RecordLog:
    """The records of a file, oldest first, and what is damaged among them.

    Parameters
    ----------
    path : path
        May not exist yet.

    Raises
    ------
    StateError
        If the file is something else.
    OSError
        If it cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.records: list[Record] = []
        self.damages: list[Damage] = []
        self.end = 0  # where the next record begins
        self._view: mmap.mmap | None = None
        self._seen = _NO_FILE  # its stamp when it was mapped
        if self.path.exists():
            self._open()

    def read(self, entry: Entry) -> Array:
        """Return an array as a view of the mapped file, which cannot be written to.

        Raises
        ------
        StateError
            If its bytes are not those that were written.
        """
        assert self._view is not None
        data = np.frombuffer(self._view, np.uint8, entry.nbytes, entry.start)
        if zlib.crc32(data.data) != entry.crc32:
            raise StateError(
                f"{self.path}: damaged: the {entry.nbytes} bytes at {entry.start} do not have the "
                "checksum that was written with them"
            )
        return data.view(_DTYPES[entry.dtype]).reshape(entry.shape)

    def append(
        self, head: Mapping[str, Any], arrays: Mapping[str, Array], *, sync: bool = True
    ) -> Record:
        """Write a record behind the others.

        Parameters
        ----------
        head : mapping
            What JSON can say; the key "arrays" is taken.
        arrays : mapping of str to array
            uint8, uint32, int32, int64, float16, float32 or float64.
        sync : bool
            Wait until the disk has it: then it survives the end of power, not only of the process.

        Raises
        ------
        FileChanged
            If another writer has changed the file since it was read.
        OSError
            If it cannot be written; the file is as it was.
        """
        parts, table = _laid_out(arrays)
        text = json.dumps({**head, "arrays": table}, separators=(",", ":")).encode()
        text += b" " * (-len(text) % ALIGNMENT)
        n_data = sum(len(part) for part in parts)
        front = _HEAD.pack(MAGIC, versions.VERSION, zlib.crc32(text), len(text), n_data, 0)[:-4]
        pieces = [front + zlib.crc32(front).to_bytes(4, "little") + text, *parts]
        end = self.end
        with locked(self.path) as file:
            self._check_same(file)
            self._write(file, pieces, sync)
            self._remap()
        record = self._record(end)
        assert isinstance(record, Record)
        self._keep(record)
        return record

    def is_current(self) -> bool:
        """Return whether the file is the one that was read, and as long."""
        return stamp(self.path) == self._seen

    def replace(self, other: Path) -> None:
        """Let another file, which the disk has, take the place of this one.

        Raises
        ------
        FileChanged
            If another writer has changed this one since it was read.
        OSError
            If it cannot be replaced.
        """
        with locked(self.path) as file:
            self._check_same(file)
            os.replace(other, self.path)
        sync_folder(self.path)

    def close(self) -> None:
        """Let go of the file; arrays that were read stay valid."""
        self._view = None

    def _check_same(self, file: int) -> None:
        """Raise FileChanged if the open file, now locked, is not what was read."""
        now = stamp(file)
        is_new = self._seen == _NO_FILE and not now[2]
        if stamp(self.path) != now or not (is_new or now == self._seen):
            raise FileChanged(f"{self.path}: another writer has changed the file; open it again")

    def _write(self, file: int, pieces: list[bytes | memoryview], sync: bool) -> None:
        os.ftruncate(file, self.end)  # what an earlier crash left behind the last record
        os.lseek(file, self.end, os.SEEK_SET)
        try:
            for piece in pieces:
                _write_all(file, piece)
            if sync:
                os.fsync(file)
        except BaseException:  # an interrupt too
            os.ftruncate(file, self.end)
            raise
        if sync and not self.end:
            sync_folder(self.path)

    def _open(self) -> None:
        if not self.path.is_file():
            raise StateError(f"{self.path}: expected a state file, got something else")
        with locked(self.path, to_write=False):  # not in the middle of a record
            self._remap()
        if self._view is None:
            return
        if self._view[: len(MAGIC)] != MAGIC and self._view.find(MAGIC) < 0:
            raise StateError(
                f"{self.path}: expected a state file, which begins with {MAGIC.decode()}, got "
                f"{self._view[:8]!r}"
            )
        self._scan()

    def _remap(self) -> None:
        with open(self.path, "rb") as file:
            self._seen = stamp(file.fileno())
            is_empty = not self._seen[2]
            self._view = None if is_empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def _scan(self) -> None:
        assert self._view is not None
        offset = 0
        while offset < len(self._view):
            found = self._record(offset)
            if isinstance(found, Record):
                self._keep(found)
                offset = self.end
                continue
            following = self._next_record(offset)
            if following < 0 and not self.records:
                self.damages.append(Damage(offset, found))
                return
            if following < 0:  # what a crash leaves is no damage, but is told
                self.damages.append(Damage(offset, f"{found}; nothing readable follows"))
                return
            self.damages.append(Damage(offset, found))
            offset = following

    def _keep(self, record: Record) -> None:
        self.records.append(record)
        self.end = record.offset + record.nbytes

    def _next_record(self, offset: int) -> int:
        """Return where the next readable record begins, -1 if there is none."""
        assert self._view is not None
        while (offset := self._view.find(MAGIC, offset + 1)) >= 0:
            if offset % ALIGNMENT == 0 and isinstance(self._record(offset), Record):
                return offset
        return -1

    def _record(self, offset: int) -> Record | str:
        """Return the record at `offset`, or why there is none."""
        view = self._view
        assert view is not None
        if len(view) - offset < _HEAD.size:
            return "an unfinished record"
        magic, version, crc, n_text, n_data, own = _HEAD.unpack_from(view, offset)
        if magic != MAGIC or zlib.crc32(view[offset : offset + _HEAD.size - 4]) != own:
            return "a damaged record"
        if version > versions.VERSION:
            raise StateError(
                f"{self.path}: expected format version {versions.VERSION} or older, got "
                f"{version}; use a newer jitllm"
            )
        start = offset + _HEAD.size
        if n_text > _MAX_JSON or n_text + n_data > len(view) - start:
            return "an unfinished record"
        text = view[start : start + n_text]
        if zlib.crc32(text) != crc:
            return "a damaged record"
        try:
            head = json.loads(text)
            entries = dict(_entries(head.pop("arrays"), start + n_text, n_data))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            return f"a record that makes no sense ({error})"
        return Record(offset, _HEAD.size + n_text + n_data, version, head, entries)


def _write_all(file: int, piece: bytes | memoryview) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(file, rest) :]


def _laid_out(
    arrays: Mapping[str, Array],
) -> tuple[list[bytes | memoryview], dict[str, dict[str, Any]]]:
    """Return the bytes of all arrays, padded, and the table that tells where each is."""
    parts: list[bytes | memoryview] = []
    table, start = {}, 0
    for name, array in arrays.items():
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        table[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [start, start + len(data)],
            "crc32": zlib.crc32(data),
        }
        pad = bytes(-len(data) % ALIGNMENT)
        parts += [data, pad] if pad else [data]
        start += len(data) + len(pad)
    return parts, table


def _entries(table: Mapping[str, Any], data: int, n_data: int) -> Iterator[tuple[str, Entry]]:
    """Check the table of a record whose data begins at `data`; ValueError if it is wrong."""
    for name, row in table.items():
        start, stop = row["data_offsets"]
        shape = tuple(row["shape"])
        numbers = (start, stop, row["crc32"], *shape)
        if not all(isinstance(n, int) and 0 <= n for n in numbers) or stop > n_data:
            raise ValueError(f"array {name!r} lies outside")
        size = np.dtype(_DTYPES[row["dtype"]]).itemsize
        for n in shape:
            size *= n
        if size != stop - start:
            raise ValueError(f"array {name!r} has {stop - start} bytes, its shape says {size}")
        yield name, Entry(row["dtype"], shape, data + start, stop - start, row["crc32"])
