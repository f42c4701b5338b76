"""State files of llama.cpp, read: every size is checked against what is there."""

import itertools
import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jitllm.kernels import cache_types
from jitllm.kernels.cache_types import Rows
from jitllm.kernels.formats.ids import TYPE_NAMES
from jitllm.llm.errors import StateError
from jitllm.llm.state_files.llama_cpp_memory import CacheLayer, CachePart, Memory
from jitllm.llm.state_files.llama_cpp_states import LayerStates, State

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

SEQUENCE, SESSION = (0x67677371, 3), (0x6767736E, 10)  # magic and version


class Stored(NamedTuple):
    """Keys or values of a layer: items [n, heads, items of a row] and how to read them."""

    rows: Rows
    items: Array


@dataclass
class Part:
    """Cells of one sequence in one cache, by position; no values where the file has none."""

    first: int
    n_cells: int
    rows: list[tuple[Stored, Stored | None]]


@dataclass
class Found:
    """What a file has of one sequence.

    Attributes
    ----------
    ids : list of int
    parts : list of Part
        As `Memory.caches`.
    states : (int, {int: float32 [n]}) or None
        Tokens that they are behind, and our states by number; None if there are none.
    """

    ids: list[int]
    parts: list[Part]
    states: tuple[int, dict[int, Floats]] | None


class Reader:
    """Numbers of a file, one after the other.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file:
            is_empty = not os.fstat(file.fileno()).st_size
            whole = b"" if is_empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.path, self.data, self.place = path, whole, 0

    def wrong(self, what: str) -> StateError:
        """Return the error that something is not what it should be."""
        return StateError(f"{self.path}: at byte {self.place}: {what}")

    def array(self, dtype: npt.DTypeLike, n: int) -> Array:
        """Return the next n numbers, as a view."""
        kind = np.dtype(dtype)
        if not 0 <= n <= (len(self.data) - self.place) // kind.itemsize:
            raise self.wrong(f"expected {n} numbers of {kind.itemsize} bytes, the file ends before")
        found = np.frombuffer(self.data, kind, n, self.place)
        self.place += found.nbytes
        return found

    def number(self, dtype: str = "<u4") -> int:
        """Return the next number."""
        return int(self.array(dtype, 1)[0])


def read(
    path: Path, memory: Memory, architecture: str, n_vocab: int, n_ctx: int, seq_id: int
) -> Found:
    """Return what a file has of a sequence of a model.

    Raises
    ------
    StateError
        If it is none, is damaged, or is of a model of other sizes.
    """
    reader = Reader(path)
    kind = reader.number(), reader.number()
    if kind not in (SEQUENCE, SESSION):
        raise StateError(
            f"{path}: expected a sequence file of version 3 or a session of version 10 of "
            f"llama.cpp, got magic {kind[0]:#x}, version {kind[1]}"
        )
    ids: list[int] = reader.array("<i4", reader.number()).tolist()
    if ids and not 0 <= min(ids) <= max(ids) < n_vocab:
        raise reader.wrong(f"expected tokens from 0 to {n_vocab - 1}")
    if kind == SESSION:
        name = reader.array(np.uint8, reader.number()).tobytes()
        if name != architecture.encode():
            raise reader.wrong(f"expected a {architecture!r} model, got {name!r:.80}")
    wanted = seq_id if kind == SESSION else None
    cells = _Cells(reader, memory.has_axes, ids, wanted)
    parts = [_part(cells, part) for part in memory.caches] if len(ids) <= n_ctx else []
    states = _states(cells, memory) if memory.states and len(ids) <= n_ctx else None
    if len(ids) <= n_ctx and reader.place != len(reader.data):
        raise reader.wrong("expected the end of the file: this is of another model, or damaged")
    return Found(ids, parts, states)


class _Cells:
    """Positions and sequences of cells.

    Parameters
    ----------
    reader : Reader
    has_axes : bool
        Whether positions along two more axes, and the token, stand in each.
    ids : list of int
    wanted : int or None
        The sequence; None for whatever sequence there is.
    """

    def __init__(
        self, reader: Reader, has_axes: bool, ids: Sequence[int], wanted: int | None
    ) -> None:
        self.reader, self._has_axes, self._ids, self._wanted = reader, has_axes, ids, wanted

    def read(self, n_cells: int, *, is_state: bool = False) -> tuple[list[int], list[int]]:
        """Return positions of the sequence's cells, and their places among all."""
        positions, own = [], []
        for i in range(n_cells):
            position, n_sequences = self.reader.number("<i4"), self.reader.number()
            axes = self.reader.array("<i4", 3) if self._has_axes and not is_state else None
            sequences = self.reader.array("<i4", n_sequences)
            if self._wanted is None or self._wanted in sequences:
                positions.append(position)
                own.append(i)
                if axes is not None:
                    self._check_axes(position, axes)
        return positions, own

    def _check_axes(self, position: int, axes: Array) -> None:
        """Raise StateError where a cell is that of a picture."""
        is_text = axes[0] == axes[1] == position and axes[2] >= 0
        known = not 0 <= position < len(self._ids) or axes[2] == self._ids[position]
        if not (is_text and known):
            raise self.reader.wrong(
                f"expected cells of text, got one at position {position} with axes {axes.tolist()}"
            )


def _part(cells: _Cells, part: CachePart) -> Part:
    """Read one cache."""
    found = None
    for _ in range(cells.reader.number()):
        stream = _stream(cells, part)
        found = found or stream
    return found or Part(0, 0, [])


def _stream(cells: _Cells, part: CachePart) -> Part | None:
    reader = cells.reader
    n_cells = reader.number()
    if not n_cells:
        return None
    positions, own = cells.read(n_cells)
    rows = list(_rows(reader, part, n_cells))
    if not own:
        return None
    order = np.argsort(positions, kind="stable")
    first = positions[order[0]]
    if first < 0 or not np.array_equal(np.sort(positions), first + np.arange(len(own))):
        raise reader.wrong("expected cells of consecutive positions, one for each")
    picked = np.array(own)[order]
    return Part(first, len(own), [(_picked(k, picked), v and _picked(v, picked)) for k, v in rows])


def _picked(stored: Stored, places: Array) -> Stored:
    return stored._replace(items=stored.items[places])


def _rows(reader: Reader, part: CachePart, n_cells: int) -> Iterator[tuple[Stored, Stored | None]]:
    """Yield keys and values of each layer, as views."""
    is_transposed, n_layers = reader.number(), reader.number()
    if is_transposed > 1 or n_layers != len(part.layers):
        raise reader.wrong(f"expected {len(part.layers)} layers, got {n_layers}")
    keys = []
    for layer in part.layers:
        rows = part.keys(layer, _kind(reader))
        keys.append(Stored(rows, _items(reader, rows, n_cells, "key")))
    for k, layer in zip(keys, part.layers, strict=True):
        yield k, _values(reader, part, layer, n_cells, is_transposed) if layer.dv else None


def _values(
    reader: Reader, part: CachePart, layer: CacheLayer, n_cells: int, is_transposed: int
) -> Stored:
    rows = part.values(layer, _kind(reader))
    if is_transposed and layer.is_index:
        raise reader.wrong("expected index keys, which llama.cpp keeps with flash attention only")
    if not is_transposed:
        return Stored(rows, _items(reader, rows, n_cells, "value"))
    width = rows.heads * rows.width
    found = reader.number(), reader.number()
    if cache_types.is_quantized(rows.kind) or found != (rows.dtype.itemsize, width):
        raise reader.wrong(f"expected {width} {rows.kind} numbers in a value, got {found}")
    columns = reader.array(rows.dtype, n_cells * width).reshape(width, n_cells)
    return Stored(rows, columns.T.reshape(n_cells, rows.heads, rows.width))


def _items(reader: Reader, rows: Rows, n_cells: int, what: str) -> Array:
    size = reader.number("<u8")
    try:
        fits = size == rows.nbytes
    except ValueError as error:
        raise reader.wrong(str(error)) from error
    if not fits:
        raise reader.wrong(
            f"expected {rows.heads} * {rows.width} {rows.kind} numbers in a {what}, {rows.nbytes} "
            f"bytes, got {size} bytes"
        )
    items = reader.array(rows.dtype, n_cells * rows.heads * rows.n_items)
    return items.reshape(n_cells, rows.heads, rows.n_items)


def _kind(reader: Reader) -> str:
    number = reader.number("<i4")
    kind = TYPE_NAMES.get(number, "").lower()
    if kind not in cache_types.NAMES:
        raise reader.wrong(
            f"expected a cache of one of the types {', '.join(cache_types.NAMES)}, got type "
            f"{number}"
        )
    return kind


def _states(cells: _Cells, memory: Memory) -> tuple[int, dict[int, Floats]] | None:
    """Read the states of recurrent layers."""
    reader = cells.reader
    n_cells = reader.number()
    positions, own = cells.read(n_cells, is_state=True)
    is_transposed, n_layers = reader.number(), reader.number()
    if is_transposed or n_layers != memory.n_layers or len(own) > 1:
        raise reader.wrong(
            f"expected states of {memory.n_layers} layers, one for the sequence, got {n_layers} "
            f"layers and {len(own)} states"
        )
    found: dict[int, Floats] = {}
    for row in range(len(LayerStates._fields)):
        for layer in memory.states:
            values = _row(reader, layer[row], n_cells)
            if own:
                found |= _split(layer[row], values[own[0]])
    return (positions[0] + 1, found) if own else None


def _row(reader: Reader, states: tuple[State, ...], n_cells: int) -> Floats:
    """Read the row of a layer, for each cell: float32 [cells, n]."""
    size, kind, nbytes = sum(s.size for s in states), reader.number("<i4"), reader.number("<u8")
    if (kind, nbytes) != (0, 4 * size):
        raise reader.wrong(
            f"expected {size} float32 numbers in a layer's states, got type {kind}, {nbytes} bytes"
        )
    return reader.array("<f4", n_cells * size).reshape(n_cells, size)


def _split(states: tuple[State, ...], row: Floats) -> dict[int, Floats]:
    ends = itertools.accumulate(state.size for state in states)
    return {s.number: s.here(row[end - s.size : end]) for s, end in zip(states, ends, strict=True)}
