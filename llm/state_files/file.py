"""State files: the checkpoints of sequences, oldest first, each with what its parent lacks."""

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.llm.errors import StateError
from jitllm.llm.state_files import layout, slices
from jitllm.llm.state_files.checkpoint import KIND, CacheHead, Checkpoint
from jitllm.llm.state_files.log import Array, Damage, Entry, Record, RecordLog
from jitllm.llm.state_files.versions import upgraded

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

_CELLS = re.compile(r"cells\.([0-9]{1,6})\.([0-9]{1,12})-([0-9]{1,12})")


def cells_name(cache: int, start: int, stop: int) -> str:
    """Return the name of an array with cells `start` to `stop - 1` of a cache."""
    return f"cells.{cache}.{start}-{stop}"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Cells `start` to `stop - 1` of a cache, all in one page.

    The array, of the record of `owner`, holds `count` cells from `origin` on.
    """

    owner: Checkpoint
    cache: int
    start: int
    stop: int
    origin: int
    count: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class Lineage:
    """Which checkpoint a sequence goes back to, and how much of it is still the same.

    Attributes
    ----------
    path : Path
    key : str
        The checkpoint's.
    tokens, cells : int
        Leading tokens, and leading cells, that nothing has changed since.
    """

    path: Path
    key: str
    tokens: int
    cells: int

    def cut(self, n_tokens: int) -> "Lineage":
        """Return what is left when a sequence was cut to `n_tokens` tokens."""
        return replace(self, tokens=min(self.tokens, n_tokens)).cut_cells(n_tokens)

    def cut_cells(self, n_cells: int) -> "Lineage":
        """Return what is left when all cells but the first `n_cells` may change."""
        return replace(self, cells=min(self.cells, n_cells))


class StateFile:
    """The checkpoints in a file. `docs/STATE.md` describes the format.

    Parameters
    ----------
    path : path
        May not exist yet: `append` makes it.

    Attributes
    ----------
    checkpoints : list of Checkpoint
        That can be read, oldest first.
    damages : list of Damage
        Places that cannot.

    Raises
    ------
    StateError
        If the file is no state file, or from a newer jitllm.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).resolve()
        self._log = RecordLog(self.path)
        self.damages: list[Damage] = list(self._log.damages)
        self._by_id: dict[int, Checkpoint] = {}
        for record in self._log.records:
            if record.head.get("kind") != KIND:
                continue
            try:
                found = Checkpoint.of(upgraded(record))
            except StateError as error:
                self.damages.append(Damage(record.offset, str(error)))
            else:
                self._by_id[found.id] = found

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """Those that can be read, oldest first."""
        return list(self._by_id.values())

    @property
    def records(self) -> list[Record]:
        """All records that can be read, those that are no checkpoints too, oldest first."""
        return list(self._log.records)

    def get(self, which: int | str | None = None) -> Checkpoint:
        """Return a checkpoint by its number or label; without one, the newest.

        Raises
        ------
        StateError
            If there is none; the message lists what there is.
        """
        for found in reversed(self._by_id.values()):
            if which is None or which == (found.label if isinstance(which, str) else found.id):
                return found
        there = ", ".join(
            str(c.id) + (f" {c.label!r}" if c.label else "") for c in self.checkpoints
        )
        wanted = "a complete checkpoint" if which is None else f"a checkpoint {which!r}"
        raise StateError(
            f"{self.path}: expected {wanted}, the file has {there or 'none that can be read'}"
            f"{self.told_damages()}"
        )

    def has(self, number: int) -> bool:
        """Return whether a checkpoint is there."""
        return number in self._by_id

    def find(self, key: str) -> Checkpoint | None:
        """Return the checkpoint with a key, if it is there."""
        return next((c for c in reversed(self._by_id.values()) if c.key == key), None)

    def own_entries(self, checkpoint: Checkpoint) -> dict[str, Entry]:
        """Return the arrays that no other checkpoint uses: logits and samplers."""
        shared = ("cells.", "states.", "tokens")
        entries = checkpoint.record.entries
        return {name: entry for name, entry in entries.items() if not name.startswith(shared)}

    def told_damages(self) -> str:
        """Return what cannot be read, as the end of a sentence; empty if all can."""
        if not self.damages:
            return ""
        return "; damaged: " + ", ".join(f"{d.reason} at byte {d.offset}" for d in self.damages)

    def lineage(self, checkpoint: Checkpoint) -> Iterator[tuple[Checkpoint, int, int]]:
        """Yield a checkpoint and its ancestors, with their tokens and cells that belong to it.

        Raises
        ------
        StateError
            Where an ancestor is not there.
        """
        tokens, cells = checkpoint.n_tokens, checkpoint.n_done
        while True:
            yield checkpoint, tokens, cells
            tokens, cells = min(tokens, checkpoint.kept), min(cells, checkpoint.kept_cells)
            if not tokens or checkpoint.parent is None:
                return
            parent = self._by_id.get(checkpoint.parent)
            if parent is None:
                raise StateError(
                    f"{self.path}: {checkpoint} needs checkpoint {checkpoint.parent}, which cannot "
                    f"be read{self.told_damages()}"
                )
            checkpoint = parent

    def tokens(self, checkpoint: Checkpoint) -> Ints:
        """Return all tokens of a checkpoint.

        Raises
        ------
        StateError
            If some cannot be read.
        """
        ids = np.empty(checkpoint.n_tokens, np.int32)
        for found, stop, _ in self.lineage(checkpoint):
            own = self.array(found, "tokens")
            start = found.n_tokens - own.size
            if own.dtype != np.int32 or own.ndim != 1 or start not in (0, found.kept):
                raise StateError(f"{self.path}: {found}: its tokens do not fit its head")
            ids[start:stop] = own[: max(0, stop - start)]
            if not start:
                break
        return ids

    def chunks(self, checkpoint: Checkpoint) -> list[Chunk]:
        """Return where the cells of a checkpoint are, ascending; some may be missing."""
        found: list[Chunk] = []
        with suppress(StateError):  # what a lost ancestor held must be computed again
            for ancestor, _, stop in self.lineage(checkpoint):
                found += _own_chunks(ancestor, stop)
        return sorted(found, key=lambda chunk: (chunk.cache, chunk.start))

    def state(self, checkpoint: Checkpoint, n_tokens: int) -> Floats:
        """Return the recurrent states behind the first `n_tokens` tokens, one after the other.

        Raises
        ------
        StateError
            If they cannot be read.
        """
        name, owner = f"states.{n_tokens}", self._owner(checkpoint, n_tokens)
        if owner is None:
            raise StateError(
                f"{self.path}: {checkpoint}: expected states behind one of "
                f"{list(checkpoint.states)} tokens, got none behind {n_tokens}"
            )
        found, size = self.array(owner, name), sum(checkpoint.state_sizes)
        if found.dtype != np.float32 or found.shape != (size,):
            raise StateError(
                f"{self.path}: {owner}: expected states of {size} float32 numbers, got "
                f"{found.dtype} {list(found.shape)}"
            )
        return found

    def state_entries(self, checkpoint: Checkpoint) -> dict[int, Entry]:
        """Return where its states are, by the number of tokens; some may be missing."""
        owners = {n: self._owner(checkpoint, n) for n in checkpoint.states}
        return {n: owner.record.entries[f"states.{n}"] for n, owner in owners.items() if owner}

    def _owner(self, checkpoint: Checkpoint, n_tokens: int) -> Checkpoint | None:
        """Return the checkpoint whose record has the states behind the first tokens."""
        with suppress(StateError):
            for ancestor, _, cells in self.lineage(checkpoint):
                if n_tokens <= cells and f"states.{n_tokens}" in ancestor.record.entries:
                    return ancestor
        return None

    def cells(self, chunk: Chunk, cache: CacheHead) -> npt.NDArray[np.uint8]:
        """Return the cells of a chunk's array, as bytes; `layout` says how they lie.

        Raises
        ------
        StateError
            If they are damaged, or not as many as the cache says.
        """
        found, dtype = self.read(chunk.owner, chunk.entry), layout.dtype_of(cache.kv_dtype)
        size = layout.n_bytes(cache.layers, cache.kv_dtype, chunk.count) // dtype.itemsize
        if found.dtype != dtype or found.shape != (size,):
            raise StateError(
                f"{self.path}: {chunk.owner}: expected {size} numbers of type {dtype} for a cache "
                f"of type {cache.kv_dtype}, got {found.dtype} {list(found.shape)}"
            )
        return found.view(np.uint8)

    def read_cells(
        self, checkpoint: Checkpoint, block: int, start: int = 0, stop: int | None = None
    ) -> tuple[Floats, Floats]:
        """Return keys and values of some tokens in one block of the model.

        Parameters
        ----------
        checkpoint : Checkpoint
        block : int
        start, stop : int
            Cells start to stop - 1; by default all.

        Returns
        -------
        k, v : float32 [n, heads, dk], [n, heads, dv]
            Copies.

        Raises
        ------
        StateError
            If the block has no cache, or some of these cells cannot be read.
        """
        return slices.read_cells(self, checkpoint, block, start, stop)

    def read_states(self, checkpoint: Checkpoint, n_tokens: int | None = None) -> list[Floats]:
        """Return the recurrent and convolution states behind some tokens, float32 [n] each.

        Parameters
        ----------
        checkpoint : Checkpoint
        n_tokens : int, optional
            One of `checkpoint.states`; by default the last.

        Raises
        ------
        StateError
            If there are none, or they cannot be read.
        """
        n_tokens = max(checkpoint.states, default=0) if n_tokens is None else n_tokens
        return list(slices.read_states(self, checkpoint, n_tokens))

    def array(self, checkpoint: Checkpoint, name: str) -> Array:
        """Return an array of a checkpoint's own record; StateError if that is damaged."""
        entry = checkpoint.record.entries.get(name)
        if entry is None:
            raise StateError(f"{self.path}: {checkpoint}: expected an array {name!r}, got none")
        return self.read(checkpoint, entry)

    def read(self, checkpoint: Checkpoint, entry: Entry) -> Array:
        """Return an array; StateError names the checkpoint that is damaged."""
        try:
            return self._log.read(entry)
        except StateError as error:
            raise StateError(f"{error}; it belongs to {checkpoint}") from error

    def append(
        self, head: Mapping[str, Any], arrays: Mapping[str, Array], *, sync: bool = True
    ) -> Checkpoint:
        """Add a checkpoint; `head` says all of `Checkpoint` but its number, key and time.

        Raises
        ------
        FileChanged
            If another writer has changed the file since it was read.
        OSError
            If it cannot be written; the file is as it was.
        """
        number = 1 + max(self._by_id, default=0)
        own = {"id": number, "key": os.urandom(8).hex(), "created": time.time()}
        whole = {"kind": KIND, **own, **head}
        found = Checkpoint.of(self._log.append(whole, arrays, sync=sync))
        self._by_id[found.id] = found
        return found

    def append_record(
        self, head: Mapping[str, Any], arrays: Mapping[str, Array], *, sync: bool = True
    ) -> Record:
        """Add a record that is no checkpoint; errors as those of `append`."""
        return self._log.append(head, arrays, sync=sync)

    def read_of(self, record: Record, name: str) -> Array:
        """Return an array of a record; StateError if it is not there, or damaged."""
        if name not in record.entries:
            raise StateError(f"{self.path}: expected an array {name!r} at {record.offset}")
        return self._log.read(record.entries[name])

    def verify(self) -> dict[int, str]:
        """Read every array; returns what is wrong by the number of the checkpoint."""
        wrong: dict[int, str] = {}
        for found in self.checkpoints:
            try:
                self.tokens(found)
                for name in found.record.entries:
                    self.array(found, name)
            except StateError as error:
                wrong[found.id] = str(error)
        return wrong

    def is_current(self) -> bool:
        """Return whether nobody else has changed or replaced the file since it was read."""
        return self._log.is_current()

    def replace(self, other: Path) -> None:
        """Let another state file take the place of this one.

        Raises
        ------
        FileChanged
            If another writer has changed this one since it was read; both stay.
        OSError
            If it cannot be replaced.
        """
        self._log.replace(other)

    def close(self) -> None:
        """Let go of the file."""
        self._log.close()

    def __enter__(self) -> "StateFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<StateFile {self.path}: {len(self._by_id)} checkpoints, {self._log.end} bytes>"


def _own_chunks(checkpoint: Checkpoint, stop: int) -> Iterator[Chunk]:
    """The cells before `stop` that a checkpoint's own record holds."""
    places = sorted(_places(checkpoint.record.entries))
    for i, (cache, start, end, name) in enumerate(places):
        following = places[i + 1 : i + 2]
        if following and following[0][0] == cache:
            end_here = min(end, following[0][1])  # written later
        else:
            end_here = end
        if start < min(end_here, stop):
            entry = checkpoint.record.entries[name]
            yield Chunk(checkpoint, cache, start, min(end_here, stop), start, end - start, entry)


def _places(names: Iterable[str]) -> Iterator[tuple[int, int, int, str]]:
    """Cache, first cell, last cell + 1 and name of each array of cells."""
    for name in names:
        if found := _CELLS.fullmatch(name):
            cache, start, stop = map(int, found.groups())
            yield cache, start, stop, name
