"""Write GGUF files, version 3: metadata of another file with changes, and new tensors."""

import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from jitllm.kernels.formats.ids import TENSOR_TYPES
from jitllm.llm.loaders.gguf_header import DEFAULT_ALIGNMENT

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_STRING, _ARRAY = 8, 9
_KINDS = {
    "uint8": 0, "int8": 1, "uint16": 2, "int16": 3, "uint32": 4, "int32": 5, "float32": 6,
    "bool": 7, "string": _STRING, "uint64": 10, "int64": 11, "float64": 12,
}  # fmt: skip
_SIZES = {kind: np.dtype(name).itemsize for name, kind in _KINDS.items() if kind != _STRING}


class NewTensor(NamedTuple):
    """A tensor to write: its name, its shape in NumPy's order, the name of its type."""

    name: str
    shape: tuple[int, ...]
    type_name: str

    @property
    def nbytes(self) -> int:
        """Bytes of its data."""
        _, block_size, block_bytes = TENSOR_TYPES[self.type_name]
        return prod(self.shape) // block_size * block_bytes


def scalar(kind: str, value: str | float) -> bytes:
    """Return a metadata value that is no array.

    Parameters
    ----------
    kind : str
        Of the GGUF specification: "uint32", "float32", "bool", "string" and so on.
    value : str, bool, int or float

    Raises
    ------
    KeyError
        If there is no such kind.
    OverflowError
        If the number does not fit in it.
    """
    return _U32.pack(_KINDS[kind]) + _items(kind, [value])


def array(kind: str, values: Sequence[Any]) -> bytes:
    """Return a metadata value that is an array; arguments and errors as those of `scalar`."""
    return (
        _U32.pack(_ARRAY) + _U32.pack(_KINDS[kind]) + _U64.pack(len(values)) + _items(kind, values)
    )


def _items(kind: str, values: Sequence[Any]) -> bytes:
    if kind == "string":
        return b"".join(map(_text, values))
    return np.array(values, np.dtype(kind).newbyteorder("<")).tobytes()


def read_values(path: str | os.PathLike[str]) -> dict[str, bytes]:
    """Return the metadata values of a file as their bytes, type first, so that none changes.

    Parameters
    ----------
    path : path
        A file that `GGUFFile` has read without complaint.
    """
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view,
    ):
        pos, values = 24, {}
        for _ in range(_U64.unpack_from(view, 16)[0]):
            start = pos + 8 + _U64.unpack_from(view, pos)[0]
            end = _value_end(view, start)
            values[view[pos + 8 : start].decode()] = view[start:end]
            pos = end
    return values


def _value_end(view: mmap.mmap, pos: int) -> int:
    kind = _U32.unpack_from(view, pos)[0]
    if kind != _ARRAY:
        return _item_end(view, pos + 4, kind)
    kind, count = _U32.unpack_from(view, pos + 4)[0], _U64.unpack_from(view, pos + 8)[0]
    if kind != _STRING:
        return int(pos + 16 + count * _SIZES[kind])
    end = pos + 16
    for _ in range(count):
        end = _item_end(view, end, kind)
    return end


def _item_end(view: mmap.mmap, pos: int, kind: int) -> int:
    return int(pos + 8 + _U64.unpack_from(view, pos)[0]) if kind == _STRING else pos + _SIZES[kind]


def write_gguf(
    path: str | os.PathLike[str],
    values: Mapping[str, bytes],
    tensors: Sequence[NewTensor],
    data: Iterable[Iterator[bytes]],
    alignment: int = DEFAULT_ALIGNMENT,
) -> None:
    """Write a file whole or not at all: it has another name until it is complete.

    Parameters
    ----------
    path : path
        Replaced if there is such a file.
    values : mapping of str to bytes
        Metadata, as `read_values` gives it.
    tensors : sequence of NewTensor
    data : iterable of iterators of bytes
        Of every tensor in turn the pieces of its data.
    alignment : int
        Of tensors in the file, in bytes; as the metadata says.

    Raises
    ------
    OSError
        If the file cannot be written.
    ValueError
        If a tensor's data has another size than its shape and type say.
    """
    target = Path(path)
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        with open(partial, "xb") as file:
            file.write(_front(values, tensors, alignment))
            _pad(file, alignment)
            for tensor, pieces in zip(tensors, data, strict=True):
                _write_tensor(file, tensor, pieces)
                _pad(file, alignment)
        os.replace(partial, target)
    except BaseException:  # an interrupt too
        partial.unlink(missing_ok=True)
        raise


def _write_tensor(file: BinaryIO, tensor: NewTensor, pieces: Iterator[bytes]) -> None:
    size = 0
    for piece in pieces:
        size += file.write(piece)
    if size != tensor.nbytes:
        raise ValueError(f"tensor {tensor.name!r}: expected {tensor.nbytes} bytes, got {size}")


def _front(values: Mapping[str, bytes], tensors: Sequence[NewTensor], alignment: int) -> bytes:
    parts = [b"GGUF", _U32.pack(3), _U64.pack(len(tensors)), _U64.pack(len(values))]
    for key, value in values.items():
        parts += [_text(key), value]
    offset = 0
    for tensor in tensors:
        parts += [_text(tensor.name), _U32.pack(len(tensor.shape))]
        parts += [_U64.pack(size) for size in reversed(tensor.shape)]
        parts += [_U32.pack(TENSOR_TYPES[tensor.type_name][0]), _U64.pack(offset)]
        offset += -(-tensor.nbytes // alignment) * alignment
    return b"".join(parts)


def _pad(file: BinaryIO, alignment: int) -> None:
    file.write(bytes(-file.tell() % alignment))


def _text(value: str) -> bytes:
    data = value.encode()
    return _U64.pack(len(data)) + data
