"""A sequence into a state file: what the file does not have yet."""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jitllm.backends.base import PAGE_TOKENS
from jitllm.llm.errors import StateError
from jitllm.llm.state import layout
from jitllm.llm.state.cells import Cells
from jitllm.llm.state.checkpoint import Checkpoint
from jitllm.llm.state.counters import counted
from jitllm.llm.state.file import Lineage, StateFile, cells_name
from jitllm.llm.state.log import Array

if TYPE_CHECKING:
    from jitllm.llm.model import Model

_log = logging.getLogger("jitllm.state")


class Memory(NamedTuple):
    """What is saved of a sequence.

    Attributes
    ----------
    ids : list of int
    n_done : int
        Tokens whose cells are written.
    cells : Cells
    logits : float32 [V] or None
        Behind the last token, if they are known.
    sampler : mapping or None
    lineage : Lineage or None
        What an earlier save of it left in a file.
    """

    ids: list[int]
    n_done: int
    cells: Cells
    logits: Array | None
    sampler: Mapping[str, Any] | None
    lineage: Lineage | None


def save(
    file: StateFile, model: "Model", memory: Memory, *, label: str = "", sync: bool = True
) -> Checkpoint:
    """Add a checkpoint of a sequence to a file.

    Parameters
    ----------
    file : StateFile
    model : Model
        The sequence's.
    memory : Memory
    label : str
    sync : bool
        Wait for the disk.

    Raises
    ------
    StateError
        If the file belongs to another model.
    OSError
        If it cannot be written; the file is as it was.
    """
    started = time.perf_counter()
    with counted("save"):
        _check_model(file, model)
        parent, kept, kept_cells = _parent(file, memory)
        arrays = dict(_cell_arrays(memory, kept_cells))
        arrays |= _state_arrays(memory.cells, parent, kept_cells)
        if memory.logits is not None:
            arrays["logits"] = memory.logits
        n_new = sum(array.nbytes for array in arrays.values())
        start = kept if 4 * len(memory.ids) > n_new else 0  # all tokens, where that costs little
        arrays["tokens"] = np.array(memory.ids[start:], np.int32)
        head = {
            "parent": parent.id if parent else None,
            "label": label,
            "kept": kept,
            "kept_cells": kept_cells,
            "model": model.identity.brief(),
            "sampler": memory.sampler,
            **_sizes(memory),
        }
        found = file.append(head, arrays, sync=sync)
    _log.info(
        "saved %s of %d tokens to %s: %d bytes, %.1f ms",
        found, found.n_tokens, os.fspath(file.path), found.nbytes,
        1e3 * (time.perf_counter() - started),
    )  # fmt: skip
    return found


def _check_model(file: StateFile, model: "Model") -> None:
    mine = model.identity.brief()
    for found in file.checkpoints[-1:]:
        if found.model != mine:
            raise StateError(
                f"{file.path}: expected a file for {mine}, it holds {found} of "
                f"{dict(found.model)}; save to another file"
            )


def _parent(file: StateFile, memory: Memory) -> tuple[Checkpoint | None, int, int]:
    """The checkpoint to build on, and the leading tokens and cells that it holds already."""
    lineage = memory.lineage
    if lineage is None or lineage.path != file.path or not lineage.tokens:
        return None, 0, 0
    try:
        parent = file.get(lineage.id)
    except StateError:  # pruned
        return None, 0, 0
    cells = min(lineage.cells, memory.n_done)
    if not _holds(file, parent, memory.cells, cells):
        cells = 0
    return parent, lineage.tokens, cells


def _holds(file: StateFile, parent: Checkpoint, cells: Cells, n_cells: int) -> bool:
    """Whether the caches were the same: a file may have the state of another model's loading."""
    sizes = [(c.window, c.kv_dtype, c.layers) for c in parent.caches]
    return (
        sizes == [(pool.window, pool.pool.kv_dtype, pool.pool.spec.layers) for pool in cells.pools]
        and n_cells <= parent.n_done
    )


def _cell_arrays(memory: Memory, kept_cells: int) -> Iterator[tuple[str, Array]]:
    for cache, (pool, first) in enumerate(
        zip(memory.cells.pools, memory.cells.firsts, strict=True)
    ):
        dtype = layout.dtype_of(pool.pool.kv_dtype)
        start = max(first, kept_cells)
        while start < memory.n_done:
            stop = min(memory.n_done, (start // PAGE_TOKENS + 1) * PAGE_TOKENS)
            yield cells_name(cache, start, stop), memory.cells.read(cache, start, stop).view(dtype)
            start = stop


def _state_arrays(cells: Cells, parent: Checkpoint | None, kept_cells: int) -> dict[str, Array]:
    there = {n for n in parent.states if n <= kept_cells} if parent else set()
    return {f"states.{n}": cells.read_states(n) for n in cells.state_lengths if n not in there}


def _sizes(memory: Memory) -> dict[str, Any]:
    caches = [
        {
            "window": pool.window,
            "kv_dtype": pool.pool.kv_dtype,
            "layers": pool.pool.spec.layers,
            "first": first,
        }
        for pool, first in zip(memory.cells.pools, memory.cells.firsts, strict=True)
    ]
    return {
        "n_tokens": len(memory.ids),
        "n_done": memory.n_done,
        "caches": caches,
        "state_sizes": memory.cells.state_sizes,
        "states": memory.cells.state_lengths,
    }
