"""A state file written anew without some of its checkpoints."""

import logging
import os
from collections.abc import Collection
from contextlib import suppress

from jitllm.llm.errors import StateError
from jitllm.llm.state.counters import counted
from jitllm.llm.state_files import layout
from jitllm.llm.state_files.checkpoint import Checkpoint
from jitllm.llm.state_files.file import Chunk, StateFile, cells_name
from jitllm.llm.state_files.log import Array, again_if_changed
from jitllm.llm.state_files.ranges import ranges

_log = logging.getLogger("jitllm.state")


def prune(
    path: str | os.PathLike[str],
    *,
    keep: Collection[int] | None = None,
    max_bytes: int | None = None,
) -> list[Checkpoint]:
    """Drop checkpoints of a file, or those that are damaged; the others stay whole.

    The new file takes the place of the old one when it is complete.

    Parameters
    ----------
    path : path
    keep : collection of int, optional
        Numbers of the checkpoints that stay; all by default.
    max_bytes : int, optional
        Drop those without a label first, then others, the oldest first, until the arrays of those
        left take at most this; the newest stays.

    Returns
    -------
    list of Checkpoint
        Those dropped.

    Raises
    ------
    StateError
        If the file is none, or has no checkpoint that is to stay.
    OSError
        If the new file cannot be written; the old one is as it was.
    """

    def rewrite() -> list[Checkpoint]:
        with StateFile(path) as file:
            kept = _chosen(file, keep, max_bytes)
            _rewrite(file, kept)
        dropped = [c for c in file.checkpoints if c not in kept]
        _log.info("pruned %s: %d checkpoints dropped, %d left", path, len(dropped), len(kept))
        return dropped

    with counted("prune"):
        return again_if_changed(rewrite)


def _chosen(
    file: StateFile, keep: Collection[int] | None, max_bytes: int | None
) -> list[Checkpoint]:
    wrong = file.verify()
    whole = [c for c in file.checkpoints if c.id not in wrong]
    kept = [c for c in whole if keep is None or c.id in keep]
    if not kept:
        there = ", ".join(map(str, whole)) or "none"
        raise StateError(
            f"{file.path}: expected a checkpoint to keep; whole are {there}{file.told_damages()}"
        )
    return kept if max_bytes is None else _fitting(file, kept, max_bytes)


def _fitting(file: StateFile, kept: list[Checkpoint], max_bytes: int) -> list[Checkpoint]:
    kept = list(kept)
    in_turn = sorted(kept[:-1], key=lambda c: (bool(c.label), c.id))
    for candidate in in_turn:
        if _array_bytes(file, kept) <= max_bytes:
            break
        kept.remove(candidate)
    return kept


def _array_bytes(file: StateFile, kept: list[Checkpoint]) -> int:
    """Bytes of all arrays that these need."""
    entries: dict[int, int] = {}
    for checkpoint in kept:
        used = [chunk.entry for chunk in file.chunks(checkpoint)]
        used += file.state_entries(checkpoint).values()
        used += file.own_entries(checkpoint).values()
        entries |= {entry.start: entry.nbytes for entry in used}
    return sum(entries.values())


def _rewrite(file: StateFile, kept: list[Checkpoint]) -> None:
    partial = file.path.with_name(f"{file.path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    try:
        with StateFile(partial) as new:
            for found in ranges(file):  # cells saved alone depend on no checkpoint
                with suppress(StateError):
                    names = found.record.entries
                    arrays = {name: file.read_of(found.record, name) for name in names}
                    new.append_record(found.record.head, arrays, sync=False)
            for checkpoint in kept:
                _copy(file, new, checkpoint, sync=checkpoint is kept[-1])
        file.replace(partial)
    except BaseException:  # an interrupt too
        partial.unlink(missing_ok=True)
        raise


def _copy(file: StateFile, new: StateFile, checkpoint: Checkpoint, *, sync: bool) -> None:
    """Add a checkpoint to the new file, on the nearest of its ancestors there."""
    parent, kept, kept_cells = None, 0, 0
    there: set[int] = set()  # what states the parent has: cells alone do not tell
    with suppress(StateError):  # an ancestor is lost: its cells are computed again, as before
        for ancestor, tokens, cells in file.lineage(checkpoint):
            if ancestor is not checkpoint and new.has(ancestor.id):
                parent, kept, kept_cells = ancestor.id, tokens, cells
                there = {n for n in ancestor.states if n <= cells}
                break
    arrays: dict[str, Array] = {"tokens": file.tokens(checkpoint)[kept:]}
    for chunk in file.chunks(checkpoint):
        if chunk.stop > kept_cells:
            name = cells_name(chunk.cache, chunk.origin, chunk.stop)
            with suppress(StateError):  # damaged
                arrays[name] = _cells(file, checkpoint, chunk)
    for n in checkpoint.states:
        if n not in there:
            with suppress(StateError):
                arrays[f"states.{n}"] = file.state(checkpoint, n)
    for name in file.own_entries(checkpoint):
        arrays[name] = file.array(checkpoint, name)
    head = {**checkpoint.record.head, "parent": parent, "kept": kept, "kept_cells": kept_cells}
    new.append(head, arrays, sync=sync)


def _cells(file: StateFile, checkpoint: Checkpoint, chunk: Chunk) -> Array:
    """Return of a chunk's array the cells that belong to the checkpoint."""
    cache = checkpoint.caches[chunk.cache]
    whole, n = file.cells(chunk, cache), chunk.stop - chunk.origin
    cells = layout.cut(cache.layers, cache.kv_dtype, whole, chunk.count, 0, n)
    return cells.view(layout.dtype_of(cache.kv_dtype))
