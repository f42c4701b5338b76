"""The front of a GGUF file: metadata and the list of tensors, checked before use.

Source: the GGUF specification, versions 2 and 3. A file is taken as hostile: every count and
length is compared with the bytes that are left before anything of that size is made.
"""

import struct
from array import array
from math import prod
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from jitllm.kernels.formats.ids import TENSOR_TYPES, TYPE_NAMES
from jitllm.llm.errors import GGUFError
from jitllm.llm.loaders.strings import StringArray

Value = bool | int | float | str | NDArray[Any] | StringArray

MAX_DIMS = 4
MAX_TENSOR_NAME = 63  # bytes; readers in C keep 64 with the final zero
MAX_KEY = 65535  # bytes
MAX_KEYS = 1 << 16  # far above any model; they bound what a damaged file makes us allocate
MAX_TENSORS = 1 << 18
DEFAULT_ALIGNMENT = 32

_U32, _I32, _U64 = struct.Struct("<I"), struct.Struct("<i"), struct.Struct("<Q")
_MIN_PAIR_BYTES = 8 + 4 + 1  # empty key, type, one byte
_MIN_TENSOR_BYTES = 8 + 4 + 4 + 8  # empty name, no dimensions, type, offset
_UINT32, _BOOL, _STRING, _ARRAY = 4, 7, 8, 9
_NUMBERS = {
    i: np.dtype(code)
    for i, code in {
        0: "u1",
        1: "i1",
        2: "<u2",
        3: "<i2",
        4: "<u4",
        5: "<i4",
        6: "<f4",
        7: "u1",
        10: "<u8",
        11: "<i8",
        12: "<f8",
    }.items()
}


class TensorInfo(NamedTuple):
    """Where a tensor lies and what it is.

    Attributes
    ----------
    name : str
    shape : tuple of int
        NumPy order, slowest dimension first: a matrix is (N, K). The file has it reversed.
    type_id : int
        Number of the tensor type in the file.
    type_name : str
        Its name, such as `"Q4_K"`.
    nbytes : int
    offset : int
        First byte, counted from the start of its file.
    file : int
        Which file of a split model, from 0.
    """

    name: str
    shape: tuple[int, ...]
    type_id: int
    type_name: str
    nbytes: int
    offset: int
    file: int


class Header(NamedTuple):
    """What the front of one file says: version, metadata, tensors."""

    version: int
    metadata: dict[str, Value]
    tensors: dict[str, TensorInfo]


class _Cursor:
    """A position in the file that refuses to pass its end."""

    def __init__(self, view: memoryview, path: str) -> None:
        self.view = view
        self.path = path
        self.pos = 0

    def fail(self, what: str, problem: str) -> NoReturn:
        raise GGUFError(f"{self.path}: {what} (at byte {self.pos}): {problem}")

    def left(self) -> int:
        return len(self.view) - self.pos

    def need(self, size: int, what: str) -> None:
        if size > self.left():
            self.fail(
                what,
                f"expected {size} more bytes, got {self.left()}; the file is truncated or "
                "damaged, fetch it again",
            )

    def number(self, kind: struct.Struct, what: str) -> int:
        self.need(kind.size, what)
        value: int = kind.unpack_from(self.view, self.pos)[0]
        self.pos += kind.size
        return value

    def take(self, size: int, what: str) -> bytes:
        self.need(size, what)
        data = bytes(self.view[self.pos : self.pos + size])
        self.pos += size
        return data

    def string(self, what: str, limit: int | None = None) -> str:
        size = self.number(_U64, f"length of {what}")
        if limit is not None and size > limit:
            self.fail(what, f"expected at most {limit} bytes, got {size}")
        data = self.take(size, what)
        try:
            return data.decode()
        except UnicodeDecodeError:
            self.fail(what, f"expected UTF-8, got {data[:40]!r}")

    def numbers(self, dtype: np.dtype[Any], count: int, what: str) -> NDArray[Any]:
        self.need(count * dtype.itemsize, what)
        # a copy: the file is not aligned, and closing it must not take the metadata away
        data = np.frombuffer(self.view, dtype, count, self.pos).copy() if count else np.empty(0)
        self.pos += count * dtype.itemsize
        return data.astype(dtype, copy=False)

    def strings(self, count: int, what: str) -> StringArray:
        """An array of strings: one walk over the lengths, nothing decoded."""
        self.need(count * _U64.size, what)
        start = end = self.pos
        ends = array("q")
        push, length, view = ends.append, _U64.unpack_from, self.view
        try:
            for _ in range(count):
                end += 8 + length(view, end)[0]
                push(end - start)
        except (struct.error, OverflowError):  # a length led out of the file
            pass
        if len(ends) < count or end > len(view):
            self.fail(
                what,
                f"string {min(len(ends), count - 1)} of {count} leads out of the file; "
                "it is truncated or damaged, fetch it again",
            )
        data = self.take(end - start, what)
        return StringArray(data, np.frombuffer(ends, np.int64), f"{self.path}: {what}")


def read_header(view: memoryview, path: str, file: int = 0) -> Header:
    """Read and check everything before the tensor data of one file.

    Parameters
    ----------
    view : memoryview
        The whole file; nothing returned refers to it.
    path : str
        Named in errors.
    file : int
        Kept in the tensors' `file`.

    Raises
    ------
    GGUFError
        If anything is damaged, truncated, unknown or out of range.
    """
    cursor = _Cursor(view, path)
    version = _read_version(cursor)
    n_tensors = _read_count(cursor, "number of tensors", MAX_TENSORS, _MIN_TENSOR_BYTES)
    n_pairs = _read_count(cursor, "number of metadata keys", MAX_KEYS, _MIN_PAIR_BYTES)
    metadata: dict[str, Value] = {}
    alignment = DEFAULT_ALIGNMENT
    for i in range(n_pairs):
        key = cursor.string(f"metadata key {i}", MAX_KEY)
        if key in metadata:
            cursor.fail(f"key {key!r}", "expected each key once, got it twice")
        kind = cursor.number(_U32, f"type of key {key!r}")
        metadata[key] = value = _read_value(cursor, kind, f"key {key!r}")
        if key == "general.alignment":
            alignment = _check_alignment(cursor, kind, value)
    tensors = _read_tensors(cursor, n_tensors, alignment, file)
    return Header(version, metadata, tensors)


def _read_version(cursor: _Cursor) -> int:
    magic = bytes(cursor.view[:4])
    if magic != b"GGUF":
        cursor.fail("magic", f"expected b'GGUF', got {magic!r}; this is not a GGUF file")
    cursor.pos = 4
    version = cursor.number(_U32, "version")
    if version and not version & 0xFFFF:
        cursor.fail("version", "the file is big-endian; convert it to little-endian")
    if version not in (2, 3):
        cursor.fail("version", f"expected 2 or 3, got {version}; convert the file again")
    return version


def _read_count(cursor: _Cursor, what: str, limit: int, min_bytes: int) -> int:
    count = cursor.number(_U64, what)
    most = min(limit, cursor.left() // min_bytes)
    if count > most:
        cursor.fail(what, f"expected at most {most} in a file of this size, got {count}")
    return count


def _read_value(cursor: _Cursor, kind: int, what: str) -> Value:
    if kind == _STRING:
        return cursor.string(what)
    if kind == _ARRAY:
        return _read_array(cursor, what)
    if kind not in _NUMBERS:
        cursor.fail(what, f"expected a value type from 0 to 12, got {kind}")
    value: bool | int | float
    (value,) = cursor.numbers(_NUMBERS[kind], 1, what).tolist()
    return value != 0 if kind == _BOOL else value


def _read_array(cursor: _Cursor, what: str) -> Value:
    kind = cursor.number(_U32, f"element type of {what}")
    count = cursor.number(_U64, f"length of {what}")
    if kind == _STRING:
        return cursor.strings(count, what)
    if kind not in _NUMBERS:
        problem = "arrays of arrays are not allowed" if kind == _ARRAY else f"got {kind}"
        cursor.fail(what, f"expected elements of a type from 0 to 12 but no array: {problem}")
    values = cursor.numbers(_NUMBERS[kind], count, what)
    return values != 0 if kind == _BOOL else values


def _check_alignment(cursor: _Cursor, kind: int, value: Value) -> int:
    if kind != _UINT32 or not isinstance(value, int) or value.bit_count() != 1:
        cursor.fail("key 'general.alignment'", f"expected a uint32 power of two, got {value!r}")
    return value


def _read_tensors(cursor: _Cursor, count: int, alignment: int, file: int) -> dict[str, TensorInfo]:
    """Tensor list with offsets from the start of the file; the data must follow without gaps."""
    tensors: dict[str, TensorInfo] = {}
    expected = 0
    for i in range(count):
        info = _read_tensor(cursor, i, file)
        what = f"tensor {info.name!r}"
        if info.name in tensors:
            cursor.fail(what, "expected each tensor once, got it twice")
        if info.offset != expected:
            cursor.fail(
                what,
                f"expected offset {expected}, right after the tensor before, got {info.offset}",
            )
        expected = _pad(info.offset + info.nbytes, alignment)
        tensors[info.name] = info
    start = _pad(cursor.pos, alignment)
    for name, info in tensors.items():
        end = start + info.offset + info.nbytes
        if end > len(cursor.view):
            cursor.fail(
                f"data of tensor {name!r}",
                f"expected a file of {end} bytes or more, got {len(cursor.view)}; the file is "
                "truncated, fetch it again",
            )
        tensors[name] = info._replace(offset=start + info.offset)
    return tensors


def _read_tensor(cursor: _Cursor, index: int, file: int) -> TensorInfo:
    name = cursor.string(f"name of tensor {index}", MAX_TENSOR_NAME)
    what = f"tensor {name!r}"
    n_dims = cursor.number(_U32, f"{what}, number of dimensions")
    if n_dims > MAX_DIMS:
        cursor.fail(what, f"expected at most {MAX_DIMS} dimensions, got {n_dims}")
    dims = [cursor.number(_U64, f"{what}, dimension {i}") for i in range(n_dims)]
    type_id = cursor.number(_I32, f"{what}, type")
    offset = cursor.number(_U64, f"{what}, offset")
    type_name = TYPE_NAMES.get(type_id)
    if type_name is None:
        cursor.fail(
            what,
            f"expected a known tensor type, got {type_id}; this file is damaged, "
            "or newer or older than this program reads",
        )
    _, block_size, block_bytes = TENSOR_TYPES[type_name]
    size = prod(dims)
    if any(d >= 2**63 for d in dims) or size >= 2**63:
        cursor.fail(what, f"expected fewer than 2**63 elements, got dimensions {dims}")
    if (dims[0] if dims else 1) % block_size:
        cursor.fail(
            what,
            f"expected rows of whole {type_name} blocks of {block_size}, got dimensions {dims}",
        )
    nbytes = size // block_size * block_bytes
    return TensorInfo(name, tuple(reversed(dims)), type_id, type_name, nbytes, offset, file)


def _pad(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
