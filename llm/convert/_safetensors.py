"""Read weights from safetensors files: 8 bytes of length, a header in JSON, data.

The header is read here, not by the safetensors package: that one makes NumPy arrays only of types
that NumPy has, and bfloat16, in which most models come, is none of them.

Source: https://github.com/huggingface/safetensors, "Format".
"""

import json
import struct
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from jitllm.llm.convert._weights import Array, Weight
from jitllm.llm.errors import ModelFormatError, ModelNotFoundError, UnsupportedFormat

_STORED = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_CONVERTED = {"F64": "<f8", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1",
              "BOOL": "u1"}  # fmt: skip
_MAX_DIMS = 8
_INDEX = "model.safetensors.index.json"


def read_folder(folder: Path) -> dict[str, Weight]:
    """Return the weights of a model's files: files in the order of their names, then tensors.

    Raises
    ------
    ModelNotFoundError
        If there are none, or a part is missing.
    ModelFormatError
        If a file is damaged, or the index names other tensors than the files hold.
    UnsupportedFormat
        If a tensor is of a type that is no plain number.
    """
    index = folder / _INDEX
    named: dict[str, str] = {}
    if index.is_file():
        named = _weight_map(index)
        paths = [folder / name for name in sorted(set(named.values()))]
    else:
        paths = sorted(folder.glob("model*.safetensors"))
    if not paths:
        raise ModelNotFoundError(
            f"expected model*.safetensors in {folder}, got no such file; a model in pickled files "
            "has to be saved again, with save_pretrained of transformers"
        )
    if missing := [path.name for path in paths if not path.is_file()]:
        raise ModelNotFoundError(f"expected {', '.join(missing)} in {folder}, got no such file")
    weights = {name: weight for path in paths for name, weight in _read_file(path).items()}
    if named and (other := named.keys() ^ weights.keys()):
        raise ModelFormatError(
            f"{index}: expected the tensors that the files hold, got a difference in "
            f"{', '.join(sorted(other)[:10])}; fetch the model again"
        )
    return weights


def _weight_map(index: Path) -> dict[str, str]:
    try:
        found = json.loads(index.read_text("utf-8"))["weight_map"]
        names = {str(name): Path(file).name for name, file in found.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelFormatError(f"{index}: expected JSON with a weight_map, got {error!r}") from None
    return names


def _read_file(path: Path) -> dict[str, Weight]:
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0] if size >= 8 else size
        if 8 + length > size:
            raise ModelFormatError(f"{path}: expected a header, got a file of {size} bytes")
        text = file.read(length)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{path}: expected a header in JSON, got {error}") from None
    if not isinstance(header, dict):
        raise ModelFormatError(f"{path}: expected a header with tensors, got {header!r:.60}")
    header.pop("__metadata__", None)
    return {name: _weight(path, name, header[name], 8 + length, size) for name in sorted(header)}


def _weight(path: Path, name: str, info: Any, data: int, size: int) -> Weight:
    shape, offsets = _numbers(info, "shape"), _numbers(info, "data_offsets")
    kind = info.get("dtype") if isinstance(info, dict) else None
    if shape is None or len(shape) > _MAX_DIMS or 0 in shape or len(offsets or ()) != 2:
        raise ModelFormatError(
            f"{path}: tensor {name!r}: expected dtype, shape and data_offsets, got {info!r:.120}"
        )
    stored = {**_STORED, **_CONVERTED}.get(str(kind))
    if stored is None:
        raise UnsupportedFormat(
            f"{path}: tensor {name!r}: expected plain numbers, got {kind!r:.60}; convert a model "
            "that is not quantized"
        )
    dtype = np.dtype(stored)
    (start, end), expected = offsets or (0, 0), prod(shape) * dtype.itemsize
    if not start <= end <= size - data or end - start != expected:
        raise ModelFormatError(
            f"{path}: tensor {name!r}: expected {expected} bytes of data, got {start} to {end} "
            f"of {size - data}; the file is damaged or not complete"
        )

    def read() -> Array:
        array = np.fromfile(path, dtype, prod(shape), offset=data + start).reshape(shape)
        return array if kind in _STORED else array.astype(np.float32)

    return Weight(str(kind) if kind in _STORED else "F32", shape, (read,))


def _numbers(info: Any, name: str) -> tuple[int, ...] | None:
    """Return a list of whole numbers, none of them negative; None if it is something else."""
    values = info.get(name) if isinstance(info, dict) else None
    if not isinstance(values, list) or not all(type(n) is int and n >= 0 for n in values):
        return None
    return tuple(values)
