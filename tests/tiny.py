"""Small GGUF files for tests, written with the `gguf` package: an independent writer."""

import json
import lzma
import os
import zlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

CONFORMANCE = Path(__file__).parent / "conformance"
DATA = Path(__file__).parent / "data"

PackedTensor = tuple[str, NDArray[np.uint8], tuple[int, ...]]
TypedArray = tuple[str, list[Any]]

_KINDS = gguf.GGUFValueType
_DTYPE_KINDS = {
    np.dtype(dtype): kind
    for dtype, kind in (
        (np.uint8, _KINDS.UINT8),
        (np.int8, _KINDS.INT8),
        (np.uint16, _KINDS.UINT16),
        (np.int16, _KINDS.INT16),
        (np.uint32, _KINDS.UINT32),
        (np.int32, _KINDS.INT32),
        (np.float32, _KINDS.FLOAT32),
        (np.bool_, _KINDS.BOOL),
        (np.uint64, _KINDS.UINT64),
        (np.int64, _KINDS.INT64),
        (np.float64, _KINDS.FLOAT64),
    )
}


def write_gguf(
    path: str | os.PathLike[str],
    metadata: Mapping[str, Any],
    tensors: Mapping[str, NDArray[Any] | PackedTensor] | None = None,
) -> Path:
    """Write a GGUF file.

    Parameters
    ----------
    path : path
    metadata : mapping
        `bool`, `str` and `float` (float32) by their type, `int` as uint32, or int32 if negative,
        NumPy scalars and arrays by their dtype, lists of `str` or `bytes` as string arrays.
        `general.architecture` is `"llama"` unless given; `general.alignment` is followed.
    tensors : mapping, optional
        Float32, float16, float64 and integer arrays as they are; any other type as
        (type name, its blocks as uint8, shape in NumPy order).

    Returns
    -------
    Path
        `path`.
    """
    path = Path(path)
    writer = gguf.GGUFWriter(path, str(metadata.get("general.architecture", "llama")))
    for key, value in metadata.items():
        if key == "general.alignment":
            writer.add_custom_alignment(int(value))
        elif key != "general.architecture":
            _add_value(writer, key, value)
    for name, tensor in (tensors or {}).items():
        _add_tensor(writer, name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_value(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, np.ndarray):
        sub = _DTYPE_KINDS[value.dtype]
        writer.add_key_value(key, value.tolist(), _KINDS.ARRAY, sub)
    elif isinstance(value, list):
        writer.add_key_value(key, value, _KINDS.ARRAY, _KINDS.STRING)
    elif isinstance(value, np.generic):
        writer.add_key_value(key, value.item(), _DTYPE_KINDS[value.dtype])
    elif isinstance(value, str | bytes):
        writer.add_key_value(key, value, _KINDS.STRING)
    elif isinstance(value, bool):
        writer.add_key_value(key, value, _KINDS.BOOL)
    elif isinstance(value, int):
        writer.add_key_value(key, value, _KINDS.INT32 if value < 0 else _KINDS.UINT32)
    elif isinstance(value, float):
        writer.add_key_value(key, value, _KINDS.FLOAT32)
    else:
        raise TypeError(f"key {key!r}: expected a value that GGUF has a type for, got {value!r}")


def _add_tensor(writer: gguf.GGUFWriter, name: str, tensor: NDArray[Any] | PackedTensor) -> None:
    if isinstance(tensor, np.ndarray):
        writer.add_tensor(name, tensor)
        return
    type_name, blocks, shape = tensor
    kind = gguf.GGMLQuantizationType[type_name]
    rows = blocks.reshape(*shape[:-1], -1)
    writer.add_tensor(name, rows, raw_dtype=kind)


@cache
def _conformance_specs() -> dict[str, Any]:
    with lzma.open(CONFORMANCE / "specs.json.xz", "rt", encoding="utf-8") as file:
        specs: dict[str, Any] = json.load(file)
    return specs


def conformance_names() -> list[str]:
    """Names of all models in `tests/conformance`, sorted."""
    return sorted(_conformance_specs())


def conformance_architecture(name: str) -> str:
    """`general.architecture` of a model in `tests/conformance`."""
    metadata = _conformance_specs()[name]["metadata"]
    return next(str(entry[2]) for entry in metadata if entry[0] == "general.architecture")


def conformance_weights(name: str, shape: Iterable[int]) -> NDArray[np.float32]:
    """The weights that tensor `name` has by the rule of `tests/conformance/README.md`."""
    key = np.array([1, zlib.crc32(name.encode())], dtype=np.uint64)
    normal = np.random.Generator(np.random.Philox(key=key)).standard_normal
    weights = normal(tuple(shape), dtype=np.float32) * np.float32(0.1)
    return -np.abs(weights) if "ssm_a" in name else weights


def conformance_parts(name: str) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Metadata of a model in `tests/conformance`, and its tensors' shapes in NumPy's order."""
    spec = _conformance_specs()[name]
    metadata = {}
    for key, kind, *rest in spec["metadata"]:
        if kind != "array":
            metadata[key] = _typed(kind, rest[0])
        elif rest[1]:
            metadata[key] = list(rest[1]) if rest[0] == "string" else _typed(*rest)
    return metadata, {tensor: tuple(reversed(dims)) for tensor, _, dims in spec["tensors"]}


def conformance_model(name: str, path: str | os.PathLike[str]) -> Path:
    """Write the tiny model `name` of `tests/conformance` to `path`, and return `path`."""
    metadata, shapes = conformance_parts(name)
    tensors: dict[str, NDArray[Any] | PackedTensor] = {}
    for tensor, kind, _ in _conformance_specs()[name]["tensors"]:
        if kind == "I32":
            tensors[tensor] = np.zeros(shapes[tensor], np.int32)
        else:
            dtype = {"F32": np.float32, "F16": np.float16}[kind]
            tensors[tensor] = conformance_weights(tensor, shapes[tensor]).astype(dtype)
    return write_gguf(path, metadata, tensors)


def _typed(kind: str, value: Any) -> Any:
    if kind == "string":
        return value
    dtype = next(d for d, k in _DTYPE_KINDS.items() if k.name.lower() == kind)
    return np.array(value, dtype) if isinstance(value, list) else dtype.type(value)


def conformance_golden(name: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Tokens (28,) and logits (16, V) of the last 16 positions of model `name`."""
    with np.load(CONFORMANCE / "golden.npz") as golden:
        return golden[f"{name}/tokens"].astype(np.int32), golden[f"{name}/logits"]
