"""Rows of values as GPU kernels have them, NaN around; and what a run says of its segments."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]


def few(values: Sequence[Any], fast: Sequence[Any]) -> list[Any]:
    """Return values to parametrize a test with; those that are not `fast` are for slow runs."""
    return [pytest.param(x, marks=() if x in fast else pytest.mark.slow) for x in values]


def rows_of(x: Floats, more: int = 1) -> Floats:
    """Return x in rows of whole lines, with `more` rows and all other columns NaN."""
    y = empty_rows(len(x), x.shape[1], more)
    y[: len(x), : x.shape[1]] = x
    return y


def empty_rows(n: int, width: int, more: int = 1) -> Floats:
    """Return n rows for `width` columns, and `more`, all NaN."""
    return np.full((n + more, -(-width // 16) * 16), np.nan, np.float32)


def count(n: int) -> npt.NDArray[np.uint32]:
    """Return what kernels read their number of rows from."""
    return np.array([n], np.uint32)


def check(y: Floats, want: Floats, rtol: float, atol: float = 0.0) -> None:
    """Compare rows with what is wanted; all around it must still be NaN."""
    n, width = want.shape
    np.testing.assert_allclose(y[:n, :width], want, rtol, atol)
    assert np.isnan(y[n:]).all() and np.isnan(y[:, width:]).all()


class RunBlock:
    """The head of a run block, and what it points to.

    Parameters
    ----------
    segments : sequence of (rows, position)
    tables : sequence of sequences of int arrays
        For each segment, the page numbers of each cache.
    slots : sequence of (before, behind)
        For each segment, the slots of its states.
    """

    def __init__(
        self,
        segments: Sequence[tuple[int, int]],
        tables: Sequence[Sequence[Ints]] = (),
        slots: Sequence[tuple[int, int]] = (),
    ) -> None:
        sizes = [rows for rows, _ in segments]
        self.n_rows, starts = sum(sizes), np.cumsum([0, *sizes[:-1]])
        self._segments = np.zeros((len(segments), 8), np.int32)
        self._segments[:, :3] = np.c_[starts, segments]
        self._segments[:, 4:6] = slots or -1
        self._of_rows = np.repeat(np.arange(len(segments), dtype=np.int32), sizes)
        self.positions = np.concatenate(
            [np.arange(n, dtype=np.int32) + first for n, first in segments]
        )
        self.n_caches = len(tables[0]) if tables else 0
        self._tables = _table_words(tables)
        self.head = np.zeros(8, np.uint64)
        self.head.view(np.uint32)[0] = self.n_rows
        parts = self._segments, self._tables, self._of_rows
        self.head[1:4] = [part.ctypes.data for part in parts]


def _table_words(tables: Sequence[Sequence[Ints]]) -> Ints:
    every = [table for segment in tables for table in segment]
    starts = 2 * len(every) + np.cumsum([0, *map(len, every)])[:-1]
    heads = np.c_[starts, list(map(len, every))] if every else np.zeros(0)
    return np.concatenate([heads.reshape(-1), *every]).astype(np.int32)
