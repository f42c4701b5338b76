"""GGUF files: metadata by key, tensors by name, data as views on the mapped file.

Example
-------
::

    with GGUFFile("model.gguf") as file:
        file.get("general.architecture", str)
        file.tensors["token_embd.weight"].shape
        file.data("token_embd.weight")
"""

import mmap
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from jitllm.llm.errors import ClosedError, GGUFError, ModelNotFoundError
from jitllm.llm.loaders.gguf_header import Header, TensorInfo, Value, read_header
from jitllm.llm.loaders.splits import parse_split, sibling_splits, split_names
from jitllm.llm.loaders.strings import StringArray

__all__ = ["GGUFFile", "StringArray", "TensorInfo", "Value"]

T = TypeVar("T")
D = TypeVar("D")
_REQUIRED: Any = object()


class _Mapped(NamedTuple):
    map: mmap.mmap
    data: NDArray[np.uint8]
    header: Header


class GGUFFile:
    """A GGUF model, of one file or of several splits, mapped into memory and checked.

    Opening reads the metadata and the tensor list only, in memory that is bounded by about twice
    the size of the file, however damaged. The metadata stays valid after `close`;
    arrays from `data` do too, and keep their file mapped for as long as they live.
    The file must not be cut while it is open: the operating system then stops the process.

    Parameters
    ----------
    path : path, or sequence of paths
        A file; of a split model the first, `...-00001-of-0000N.gguf`: the others are found by
        name. Or all files of a split model in order, whatever their names.

    Attributes
    ----------
    paths : tuple of Path
    version : int
        Version of the container, 2 or 3.
    metadata : mapping of str to bool, int, float, str, ndarray or StringArray
        Of the first file.
    tensors : mapping of str to TensorInfo
        Of all files.

    Raises
    ------
    GGUFError
        If a file is damaged, or the splits do not belong together.
    ModelNotFoundError
        If a file is not there.
    """

    def __init__(self, path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> None:
        given = [path] if isinstance(path, str | os.PathLike) else list(path)
        if not given:
            raise ValueError("expected the path of a GGUF file, got an empty sequence")
        paths = [Path(p) for p in given]
        self._files: list[_Mapped] = []
        self._closed = False
        try:
            self._open_all(paths)
            self.tensors: Mapping[str, TensorInfo] = MappingProxyType(self._merge_tensors())
        except BaseException:
            self.close()
            raise
        self.version = self._files[0].header.version
        self.metadata: Mapping[str, Value] = MappingProxyType(self._files[0].header.metadata)

    def _open_all(self, paths: list[Path]) -> None:
        self._files.append(_map(paths[0], 0))
        count = _split_number(self._files[0].header, "split.count", 1, paths[0])
        if len(paths) == 1 and count > 1:
            paths = _find_splits(paths[0], self._files[0].header, count)
        self.paths = tuple(paths)
        if len(paths) != max(count, 1):
            raise GGUFError(
                f"{paths[0]}: key 'split.count': expected {max(count, 1)} files, got {len(paths)}"
            )
        for i, path in enumerate(paths[1:], start=1):
            self._files.append(_map(path, i))
        if count > 1:
            for i, (path, file) in enumerate(zip(paths, self._files, strict=True)):
                _check_split(file.header, path, i, count)

    def _merge_tensors(self) -> dict[str, TensorInfo]:
        tensors: dict[str, TensorInfo] = {}
        for path, file in zip(self.paths, self._files, strict=True):
            for name, info in file.header.tensors.items():
                if name in tensors:
                    raise GGUFError(
                        f"{path}: tensor {name!r}: expected it in one split, "
                        f"got it in {self.paths[tensors[name].file]} too"
                    )
                tensors[name] = info
        header, first = self._files[0].header, self.paths[0]
        total = _split_number(header, "split.tensors.count", len(tensors), first)
        if len(self._files) > 1 and total != len(tensors):
            raise GGUFError(
                f"{first}: key 'split.tensors.count': expected {total} tensors in all splits, "
                f"got {len(tensors)}; fetch the files again"
            )
        return tensors

    def get(self, key: str, kind: type[T], default: D = _REQUIRED) -> T | D:
        """The value of a metadata key, checked for its type.

        Parameters
        ----------
        key : str
            Such as `"llama.block_count"`.
        kind : type
            `bool`, `int`, `float` (also accepts whole numbers), `str`, `numpy.ndarray` or
            `StringArray`.
        default : object, optional
            Returned when the key is absent.

        Raises
        ------
        GGUFError
            If the value has another type, or the key is absent and there is no default.
        """
        value: Any = self.metadata.get(key, _REQUIRED)
        if value is _REQUIRED:
            if default is _REQUIRED:
                raise GGUFError(f"{self.paths[0]}: key {key!r}: expected {_word(kind)}, got no key")
            return default
        if kind is float and type(value) is int:
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise GGUFError(
                f"{self.paths[0]}: key {key!r}: expected {_word(kind)}, "
                f"got {_word(type(value))} {value!r:.80}"
            )
        return value

    def data(self, name: str) -> NDArray[np.uint8]:
        """The bytes of a tensor: a read-only view on the file, shape (nbytes,).

        Raises
        ------
        ClosedError
            If the file was closed.
        GGUFError
            If there is no such tensor.
        """
        info = self._info(name)
        return self._files[info.file].data[info.offset : info.offset + info.nbytes]

    def release(self, name: str) -> None:
        """Give the memory pages of a tensor back, as after copying it; reading it still works.

        Does nothing where the system cannot (Windows).

        Raises
        ------
        ClosedError
            If the file was closed.
        GGUFError
            If there is no such tensor.
        """
        info = self._info(name)
        advice = getattr(mmap, "MADV_DONTNEED", None)
        if advice is None or not info.nbytes:
            return
        start = info.offset // mmap.PAGESIZE * mmap.PAGESIZE
        self._files[info.file].map.madvise(advice, start, info.offset + info.nbytes - start)

    def _info(self, name: str) -> TensorInfo:
        if self._closed:
            raise ClosedError(f"{self.paths[0]} was closed; open it again to read {name!r}")
        if name not in self.tensors:
            raise GGUFError(
                f"{self.paths[0]}: expected a tensor named {name!r}, got none among its "
                f"{len(self.tensors)}"
            )
        return self.tensors[name]

    def close(self) -> None:
        """Unmap the files; closing twice is allowed.

        Files that arrays from `data` still show are unmapped when the last of those is gone.
        """
        self._closed = True
        while self._files:
            file_map = self._files.pop().map
            try:
                file_map.close()
            except BufferError:  # views are alive: the last one frees the map
                pass

    def __enter__(self) -> "GGUFFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<GGUFFile {self.paths[0]}: {len(self.tensors)} tensors>"


def _map(path: Path, index: int) -> _Mapped:
    _check_regular(path)
    with open(path, "rb") as file:
        file_map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        with memoryview(file_map) as view:
            header = read_header(view, str(path), index)
    except BaseException:
        file_map.close()
        raise
    return _Mapped(file_map, np.frombuffer(file_map, np.uint8), header)


def _check_regular(path: Path) -> None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelNotFoundError(f"expected a GGUF file at {path}, got no file") from error
    if not stat.S_ISREG(status.st_mode):  # a pipe would block, a device has no size
        got = "a folder" if stat.S_ISDIR(status.st_mode) else "neither a file nor a folder"
        raise GGUFError(f"{path}: expected a GGUF file, got {got}")
    if not status.st_size:
        raise GGUFError(f"{path}: expected a GGUF file, got an empty file; fetch it again")


def _split_number(header: Header, key: str, default: int, path: Path) -> int:
    value = header.metadata.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise GGUFError(f"{path}: key {key!r}: expected a count, got {value!r:.80}")
    return value


def _find_splits(path: Path, header: Header, count: int) -> list[Path]:
    number = _split_number(header, "split.no", 0, path)
    name = parse_split(path.name)
    if number:
        first = split_names(name.prefix, count)[0] if name else "the first file"
        raise GGUFError(
            f"{path}: expected the first of {count} splits, got number {number + 1}; open {first}"
        )
    paths = sibling_splits(path, count)
    if paths is None:
        raise GGUFError(
            f"{path}: expected a name that ends in '-00001-of-{count:05d}.gguf', as this is the "
            f"first of {count} splits; rename the files, or pass all their paths in order"
        )
    return paths


def _check_split(header: Header, path: Path, index: int, count: int) -> None:
    for key, expected in (("split.no", index), ("split.count", count)):
        got = _split_number(header, key, 0, path)
        if got != expected:
            raise GGUFError(
                f"{path}: key {key!r}: expected {expected}, got {got}; "
                "the splits do not belong together or are out of order"
            )


def _word(kind: type) -> str:
    return {np.ndarray: "an array", StringArray: "an array of strings"}.get(kind, kind.__name__)
