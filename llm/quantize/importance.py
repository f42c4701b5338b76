"""Importance of columns, as `llama-imatrix` measures it: mean squares of a matrix's inputs."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jitllm.llm.errors import ModelFormatError
from jitllm.llm.loaders.gguf import GGUFFile, StringArray
from jitllm.llm.loaders.gguf_writer import NewTensor, array, scalar, write_gguf

_SUMS, _COUNTS = ".in_sum2", ".counts"
CHUNK_SIZE = 512
"""Tokens of a chunk where a file does not say."""


class Squares(NamedTuple):
    """Sums of squares of the rows that one tensor was multiplied by.

    Attributes
    ----------
    sums : float64 array, shape (n, K)
        A row for each expert; one row for a tensor without experts.
    counts : float64 array, shape (n,)
        Rows that were added up.
    """

    sums: NDArray[np.float64]
    counts: NDArray[np.float64]

    def means(self) -> NDArray[np.float32]:
        """Mean squares, (n, K); 1 for experts that were never chosen."""
        counts = self.counts[:, None]
        mean = np.where(counts > 0, self.sums / np.where(counts > 0, counts, 1), 1)
        return mean.astype(np.float32)

    def spread(self, n: int) -> "Squares":
        """Return the same as `n` rows where there is one count for all; older files have that."""
        if len(self.counts) == n or len(self.counts) != 1 or self.sums.size % n:
            return self
        return Squares(self.sums.reshape(n, -1), np.repeat(self.counts, n))


@dataclass(frozen=True)
class Importance:
    """What an importance matrix holds.

    Attributes
    ----------
    squares : mapping of str to Squares
        By the name of the weight's tensor.
    datasets : tuple of str
        What it was measured on; empty if nobody said.
    n_chunks : int
    chunk_size : int
        Tokens of a chunk.
    path : str
        The file it was read from, "" for none.
    """

    squares: Mapping[str, Squares] = field(repr=False)
    datasets: tuple[str, ...]
    n_chunks: int
    chunk_size: int = CHUNK_SIZE
    path: str = ""

    @cached_property
    def columns(self) -> dict[str, NDArray[np.float32]]:
        """Mean squares of each column, (n, K), by the name of the weight's tensor."""
        return {name: squares.means() for name, squares in self.squares.items()}

    @property
    def dataset(self) -> str:
        """The first of the datasets, or ""."""
        return self.datasets[0] if self.datasets else ""

    def of(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
        """Return the importance for a tensor, (n_experts, K); None if it was not measured.

        Raises
        ------
        ModelFormatError
            If it was measured on a tensor of another shape.
        """
        found = self.columns.get(name)
        if found is None:
            return None
        expected = (shape[-3] if len(shape) > 2 else 1, shape[-1])
        if found.shape == expected or found.shape == (1, expected[0] * expected[1]):
            return found.reshape(expected)
        raise ModelFormatError(
            f"{self.path or 'importance'}: tensor {name!r}: expected importance of shape "
            f"{expected}, got {found.shape}; it was measured on another model"
        )

    def only(self, included: Sequence[str], excluded: Sequence[str]) -> "Importance":
        """Return what is known of some tensors.

        Parameters
        ----------
        included, excluded : sequence of str
            Parts of names: of tensors to keep, all if there are none, and of tensors to leave out.
        """
        squares = {
            name: value
            for name, value in self.squares.items()
            if not any(part in name for part in excluded)
            and (not included or any(part in name for part in included))
        }
        return replace(self, squares=squares)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it for `llama-quantize` and `jitllm.quantize`.

        Parameters
        ----------
        path : path
            Replaced, when all is written, if there is such a file. A name that ends in ".dat"
            gets the older format, which has no counts of experts; any other name GGUF.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        if Path(path).suffix == ".dat":
            from jitllm.llm.quantize import importance_dat

            importance_dat.save(self, path)
            return
        values = {
            "general.type": scalar("string", "imatrix"),
            "imatrix.datasets": array("string", self.datasets),
            "imatrix.chunk_count": scalar("uint32", self.n_chunks),
            "imatrix.chunk_size": scalar("uint32", self.chunk_size),
        }
        arrays: dict[str, NDArray[np.float64]] = {}
        for name in sorted(self.squares):
            arrays[name + _SUMS] = self.squares[name].sums
            arrays[name + _COUNTS] = self.squares[name].counts[:, None]
        tensors = [NewTensor(name, each.shape, "F32") for name, each in arrays.items()]
        write_gguf(
            path, values, tensors, (iter([a.astype("<f4").tobytes()]) for a in arrays.values())
        )


def combine(matrices: Iterable[Importance]) -> Importance:
    """Return one importance matrix as if all texts had been measured together.

    The number of chunks is that of the largest count of rows, as in llama.cpp.

    Parameters
    ----------
    matrices : iterable of Importance
        Of one model; the last one's size of chunks is kept.

    Raises
    ------
    ValueError
        If there are none.
    ModelFormatError
        If they were measured on different models.
    """
    added: dict[str, Squares] = {}
    datasets: list[str] = []
    size = 0
    for one in matrices:
        for name, squares in one.squares.items():
            known = added.get(name)
            added[name] = squares if known is None else _sum(one.path, name, known, squares)
        datasets += one.datasets
        size = one.chunk_size
    if not size:
        raise ValueError("expected importance matrices to combine, got none")
    most = max((squares.counts.max(initial=0) for squares in added.values()), default=0)
    return Importance(added, tuple(datasets), int(most) // size, size)


def _sum(path: str, name: str, a: Squares, b: Squares) -> Squares:
    n = max(len(a.counts), len(b.counts))
    a, b = a.spread(n), b.spread(n)
    if a.sums.shape != b.sums.shape:
        raise ModelFormatError(
            f"{path or 'importance'}: tensor {name!r}: expected sums of shape {a.sums.shape}, got "
            f"{b.sums.shape}; the matrices were measured on different models"
        )
    return Squares(a.sums + b.sums, a.counts + b.counts)


def load_importance(path: str | os.PathLike[str], chunk_size: int = CHUNK_SIZE) -> Importance:
    """Read an importance matrix, in GGUF or in the older format `.dat`.

    Parameters
    ----------
    path : path
    chunk_size : int
        What to take for the tokens of a chunk where the file does not say, as `.dat` never does.

    Raises
    ------
    GGUFError
        If the file is damaged.
    ModelFormatError
        If it holds no importance, or numbers that are none.
    ModelNotFoundError
        If there is no such file.
    """
    if Path(path).is_file() and not _is_gguf(path):
        from jitllm.llm.quantize import importance_dat

        return checked(importance_dat.load(path, chunk_size))
    with GGUFFile(path) as file:
        names = [name.removesuffix(_SUMS) for name in file.tensors if name.endswith(_SUMS)]
        squares = {name: _squares(file, name) for name in names}
        sets = file.metadata.get("imatrix.datasets")
        return checked(
            Importance(
                squares,
                tuple(sets) if isinstance(sets, StringArray) else (),
                file.get("imatrix.chunk_count", int, 0),
                file.get("imatrix.chunk_size", int, 0) or chunk_size,
                os.fspath(path),
            )
        )


def _is_gguf(path: str | os.PathLike[str]) -> bool:
    with open(path, "rb") as file:
        return file.read(4) in (b"GGUF", b"")  # GGUFFile tells what is wrong with an empty file


def checked(importance: Importance) -> Importance:
    """Return it; `ModelFormatError` if there is nothing in it, or what cannot be."""
    if not importance.squares:
        raise ModelFormatError(
            f"{importance.path or 'importance'}: expected tensors named '...{_SUMS}', got none; "
            "this is no importance matrix"
        )
    for name, (sums, counts) in importance.squares.items():
        # the float32 that means become must be finite too
        fine = np.isfinite(importance.columns[name]).all() and np.isfinite(counts).all()
        if not fine or (sums < 0).any() or (counts < 0).any():
            raise ModelFormatError(
                f"{importance.path or 'importance'}: tensor {name!r}: expected finite importance "
                "from 0, got other numbers; measure it again"
            )
    return importance


def _squares(file: GGUFFile, name: str) -> Squares:
    sums, counts = _matrix(file, name + _SUMS), _matrix(file, name + _COUNTS).reshape(-1)
    if len(counts) != len(sums):
        raise ModelFormatError(
            f"{file.paths[0]}: tensor {name + _COUNTS!r}: expected {len(sums)} counts, got "
            f"{len(counts)}"
        )
    return Squares(sums, counts)


def _matrix(file: GGUFFile, name: str) -> NDArray[np.float64]:
    data = file.data(name)
    info = file.tensors[name]
    if info.type_name != "F32":
        raise ModelFormatError(
            f"{file.paths[0]}: tensor {name!r}: expected F32, got {info.type_name}"
        )
    width = info.shape[-1] if info.shape else 1
    return data.view("<f4").reshape(-1, width).astype(np.float64)
