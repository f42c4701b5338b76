"""Importance of columns, as `llama-imatrix` measures it: mean squares of a matrix's input."""

import os
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jitllm.llm.errors import ModelFormatError
from jitllm.llm.loaders.gguf import GGUFFile, StringArray

_SUMS, _COUNTS = ".in_sum2", ".counts"


class Importance(NamedTuple):
    """What an importance matrix holds.

    Attributes
    ----------
    path : str
    columns : dict of str to float32 array, shape (n_experts, K)
        By the name of the weight's tensor; one row for matrices without experts.
    dataset : str
        What it was measured on; empty if the file does not say.
    n_chunks : int
    """

    path: str
    columns: dict[str, NDArray[np.float32]]
    dataset: str
    n_chunks: int

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
        if found.shape != expected:
            raise ModelFormatError(
                f"{self.path}: tensor {name!r}: expected importance of shape {expected}, got "
                f"{found.shape}; it was measured on another model"
            )
        return found


def load_importance(path: str | os.PathLike[str]) -> Importance:
    """Read an importance matrix in GGUF.

    Raises
    ------
    GGUFError
        If the file is damaged, or in the older format `.dat`.
    ModelFormatError
        If it holds no importance, or numbers that are none.
    ModelNotFoundError
        If there is no such file.
    """
    with GGUFFile(path) as file:
        names = [name.removesuffix(_SUMS) for name in file.tensors if name.endswith(_SUMS)]
        if not names:
            raise ModelFormatError(
                f"{path}: expected tensors named '...{_SUMS}', got none; this is no importance "
                "matrix"
            )
        columns = {name: _columns(file, name) for name in names}
        sets = file.metadata.get("imatrix.datasets")
        dataset = sets[0] if isinstance(sets, StringArray) and len(sets) else ""
        return Importance(
            os.fspath(path), columns, dataset, file.get("imatrix.chunk_count", int, 0)
        )


def _columns(file: GGUFFile, name: str) -> NDArray[np.float32]:
    """Mean squares; 1 for experts that were never chosen."""
    sums, counts = _matrix(file, name + _SUMS), _matrix(file, name + _COUNTS)
    counts = counts.reshape(-1, 1)
    if len(counts) != len(sums):
        raise ModelFormatError(
            f"{file.paths[0]}: tensor {name + _COUNTS!r}: expected {len(sums)} counts, got "
            f"{len(counts)}"
        )
    mean = np.where(counts > 0, sums / np.where(counts > 0, counts, 1), 1).astype(np.float32)
    if not np.isfinite(mean).all() or (mean < 0).any():
        raise ModelFormatError(
            f"{file.paths[0]}: tensor {name!r}: expected finite importance from 0, got other "
            "numbers; measure it again"
        )
    return mean


def _matrix(file: GGUFFile, name: str) -> NDArray[np.float32]:
    data = file.data(name)
    info = file.tensors[name]
    if info.type_name != "F32":
        raise ModelFormatError(
            f"{file.paths[0]}: tensor {name!r}: expected F32, got {info.type_name}"
        )
    return data.view(np.float32).reshape(-1, info.shape[-1] if info.shape else 1)
