"""Importance matrices in the format `.dat`, which programs wrote before there was one in GGUF.

All numbers are little-endian, int32 or float32: how many tensors; for each the length of its name,
the name, chunks c, how many values, the values, each a mean square times c; then the number of
chunks, the length of the dataset's name, the name. The last three may be missing.
"""

import os
import struct
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from jitllm.llm.errors import ModelFormatError
from jitllm.llm.quantize.importance import Importance, Squares


def save(importance: Importance, path: str | os.PathLike[str]) -> None:
    """Write an importance matrix; tensors without any row are left out.

    Parameters
    ----------
    importance : Importance
    path : path
        Replaced, when all is written, if there is such a file.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    kept = {n: s for n, s in sorted(importance.squares.items()) if s.counts.max(initial=0) > 0}
    parts = [_int(len(kept))]
    for name, squares in kept.items():
        # rounded up: 0 would make the numbers useless
        n_chunks = -(-int(squares.counts.max()) // importance.chunk_size)
        values = squares.means().astype("<f4") * np.float32(n_chunks)
        parts += [_text(name), _int(n_chunks), _int(values.size), values.tobytes()]
    dataset = importance.datasets[-1] if importance.datasets else ""
    parts += [_int(importance.n_chunks), _text(dataset)]
    with TemporaryDirectory(dir=Path(path).parent, prefix=".partial-") as folder:
        whole = Path(folder, "imatrix.dat")
        whole.write_bytes(b"".join(parts))
        os.replace(whole, path)


def load(path: str | os.PathLike[str], chunk_size: int) -> Importance:
    """Read an importance matrix.

    Parameters
    ----------
    path : path
    chunk_size : int
        Tokens of a chunk; the file has chunks only.

    Raises
    ------
    ModelFormatError
        If the file ends too early, or holds something else.
    """
    reader = _Reader(path)
    squares = {}
    for _ in range(reader.count()):
        name = reader.text()
        n_chunks = reader.count()
        values = np.frombuffer(reader.take(4 * reader.count()), "<f4").astype(np.float64)
        rows = float(max(1, n_chunks) * chunk_size)
        squares[name] = Squares(values[None] * chunk_size, np.array([rows]))
    n_chunks, dataset = (reader.count(), reader.text()) if reader.more() else (0, "")
    datasets = (dataset,) if dataset else ()
    return Importance(squares, datasets, n_chunks, chunk_size, os.fspath(path))


class _Reader:
    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path, self._data, self._pos = path, memoryview(Path(path).read_bytes()), 0

    def more(self) -> bool:
        return self._pos < len(self._data)

    def take(self, size: int) -> memoryview:
        start, self._pos = self._pos, self._pos + size
        if self._pos > len(self._data):
            raise ModelFormatError(
                f"{self._path}: expected {size} bytes at {start}, got {len(self._data) - start}; "
                "this is no importance matrix, or not all of one"
            )
        return self._data[start : self._pos]

    def count(self) -> int:
        (number,) = struct.unpack("<i", self.take(4))
        if number < 0:
            raise ModelFormatError(f"{self._path}: expected a count at {self._pos - 4}, got "
                                   f"{number}; this is no importance matrix")  # fmt: skip
        return int(number)

    def text(self) -> str:
        return str(bytes(self.take(self.count())), "utf-8", "replace")


def _int(number: int) -> bytes:
    return struct.pack("<i", number)


def _text(text: str) -> bytes:
    return _int(len(text.encode())) + text.encode()
