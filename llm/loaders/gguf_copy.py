"""What new files take over from a model file: metadata, alignment, data of tensors."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.loaders.gguf_header import DEFAULT_ALIGNMENT
from jitllm.llm.loaders.gguf_writer import read_values

_SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")
_COPY_BYTES = 1 << 24


def metadata_of(file: GGUFFile) -> dict[str, bytes]:
    """Return all values, encoded, but those that tell which part of a split model a file is."""
    values = read_values(file.paths[0])
    return {key: value for key, value in values.items() if key not in _SPLIT_KEYS}


def alignment_of(file: GGUFFile) -> int:
    """Return the bytes of which the offset of every tensor's data is a multiple."""
    return file.get("general.alignment", int, DEFAULT_ALIGNMENT)


def copied(file: GGUFFile, name: str) -> Iterator[bytes]:
    """Yield a tensor's data as it is, piece by piece."""
    data = file.data(name)
    for start in range(0, len(data), _COPY_BYTES):
        yield data[start : start + _COPY_BYTES].tobytes()


def check_targets(file: GGUFFile, targets: Iterable[str | os.PathLike[str]]) -> None:
    """Raise `ValueError` if a file to write is one of those that are read."""
    for path in map(Path, targets):
        if path.exists() and any(path.samefile(source) for source in file.paths):
            raise ValueError(f"expected a target other than the source, got {path} for both")
