"""GGUF files put together byte by byte, so that tests can make wrong ones."""

import struct
from collections.abc import Sequence

UINT8, UINT16, UINT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 0, 2, 4, 6, 7, 8, 9, 10


def text(value: bytes, size: int | None = None) -> bytes:
    """A string, with its own length or the one given."""
    return struct.pack("<Q", len(value) if size is None else size) + value


def pair(key: bytes, kind: int, payload: bytes) -> bytes:
    """A metadata key with its type and value."""
    return text(key) + struct.pack("<I", kind) + payload


def u16(value: int) -> bytes:
    """Two bytes."""
    return struct.pack("<H", value)


def u32(value: int) -> bytes:
    """Four bytes."""
    return struct.pack("<I", value)


def array(kind: int, count: int, payload: bytes) -> bytes:
    """The value of an array key."""
    return struct.pack("<IQ", kind, count) + payload


def tensor(
    name: bytes, dims: Sequence[int], type_id: int, offset: int, n_dims: int | None = None
) -> bytes:
    """An entry of the tensor list; `dims` fastest first, as in the file."""
    head = text(name) + struct.pack("<I", len(dims) if n_dims is None else n_dims)
    return head + struct.pack(f"<{len(dims)}QiQ", *dims, type_id, offset)


def gguf_bytes(
    pairs: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    data: bytes = b"",
    *,
    version: int = 3,
    alignment: int = 32,
    n_pairs: int | None = None,
    n_tensors: int | None = None,
) -> bytes:
    """A whole file; the counts in the header are the true ones unless given."""
    head = b"GGUF" + struct.pack(
        "<IQQ",
        version,
        len(tensors) if n_tensors is None else n_tensors,
        len(pairs) if n_pairs is None else n_pairs,
    )
    front = head + b"".join(pairs) + b"".join(tensors)
    return front + bytes(-len(front) % alignment) + data if data else front
