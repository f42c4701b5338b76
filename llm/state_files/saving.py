"""A sequence into a state file: what the file does not have yet."""

import logging
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from jitllm.backends.base import PAGE_TOKENS
from jitllm.llm.errors import StateError
from jitllm.llm.state.cells import Cells
from jitllm.llm.state.contents import Contents
from jitllm.llm.state.views import places
from jitllm.llm.state_files import layout
from jitllm.llm.state_files.checkpoint import Checkpoint
from jitllm.llm.state_files.file import Lineage, StateFile, cells_name
from jitllm.llm.state_files.log import Array

if TYPE_CHECKING:
    from jitllm.llm.model import Model

_log = logging.getLogger("jitllm.state")


def save(
    file: StateFile,
    model: "Model",
    contents: Contents,
    *,
    label: str = "",
    only_states: bool = False,
    sync: bool = True,
) -> Checkpoint:
    """Add a checkpoint of a sequence to a file.

    Parameters
    ----------
    file : StateFile
    model : Model
        The sequence's.
    contents : Contents
        Their `lineage` is set to the new checkpoint, if that has all cells.
    label : str
    only_states : bool
        Leave out the cells of full attention.
    sync : bool
        Wait for the disk.

    Raises
    ------
    StateError
        If the file belongs to another model.
    FileChanged
        If another writer has changed the file since it was read.
    OSError
        If it cannot be written; the file is as it was.
    """
    started = time.perf_counter()
    _check_model(file, model)
    parent, kept, kept_cells = _parent(file, contents)
    arrays = dict(_cell_arrays(contents, kept_cells, only_states=only_states))
    arrays |= _state_arrays(contents.cells, parent, kept_cells)
    if contents.logits is not None:
        arrays["logits"] = contents.logits.whole()
    if contents.source:
        arrays["source"] = np.array(contents.source, np.int32)
    saved = contents.continuation and contents.continuation.save(arrays)
    n_new = sum(array.nbytes for array in arrays.values())
    start = kept if 4 * len(contents.ids) > n_new else 0  # all tokens, where that costs little
    arrays["tokens"] = np.array(contents.ids[start:], np.int32)
    is_own = contents.cells.graph is model.engine.own_graph
    head = {
        "parent": parent.id if parent else None,
        "label": label,
        "kept": kept,
        "kept_cells": kept_cells,
        "model": model.identity.brief(),
        "computed_by": model.settings if is_own else None,
        "sampler": saved,
        "is_whole": not only_states,
        "blocks": [[block, *place] for block, place in places(model.engine.graph).items()],
        **_sizes(contents),
    }
    found = file.append(head, arrays, sync=sync)
    if not only_states:
        contents.lineage = Lineage(file.path, found.key, found.n_tokens, found.n_done)
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


def _parent(file: StateFile, contents: Contents) -> tuple[Checkpoint | None, int, int]:
    """The checkpoint to build on, and the leading tokens and cells that it holds already."""
    lineage = contents.lineage
    if lineage is None or lineage.path != file.path or not lineage.tokens:
        return None, 0, 0
    parent = file.find(lineage.key)
    if parent is None:  # pruned
        return None, 0, 0
    cells = min(lineage.cells, contents.n_done)
    if not _holds(file, parent, contents.cells, cells):
        cells = 0
    return parent, lineage.tokens, cells


def _holds(file: StateFile, parent: Checkpoint, cells: Cells, n_cells: int) -> bool:
    """Whether the caches were the same: a file may have the state of another model's loading."""
    sizes = [(c.window, c.kv_dtype, c.layers) for c in parent.caches]
    return (
        sizes == [(pool.window, pool.pool.kv_dtype, pool.pool.spec.layers) for pool in cells.pools]
        and n_cells <= parent.n_done
    )


def _cell_arrays(
    contents: Contents, kept_cells: int, *, only_states: bool
) -> Iterator[tuple[str, Array]]:
    cells = contents.cells
    for cache, (pages, first) in enumerate(zip(cells.pools, cells.firsts, strict=True)):
        pool, n_done = pages.pool, contents.n_done
        start = n_done if only_states and not pages.window else max(first, kept_cells)
        layers, dtype = pool.spec.layers, layout.dtype_of(pool.kv_dtype)
        # memory in one piece: the system gives large pieces in large pages, which is much faster
        rest = np.empty(layout.n_bytes(layers, pool.kv_dtype, max(0, n_done - start)), np.uint8)
        while start < n_done:
            stop = min(n_done, (start // PAGE_TOKENS + 1) * PAGE_TOKENS)
            size = layout.n_bytes(layers, pool.kv_dtype, stop - start)
            cells.read(cache, start, stop, rest[:size])
            yield cells_name(cache, start, stop), rest[:size].view(dtype)
            start, rest = stop, rest[size:]


def _state_arrays(cells: Cells, parent: Checkpoint | None, kept_cells: int) -> dict[str, Array]:
    there = {n for n in parent.states if n <= kept_cells} if parent else set()
    return {f"states.{n}": cells.read_states(n) for n in cells.state_lengths if n not in there}


def _sizes(contents: Contents) -> dict[str, Any]:
    caches = [
        {
            "window": pool.window,
            "kv_dtype": pool.pool.kv_dtype,
            "layers": pool.pool.spec.layers,
            "first": first,
        }
        for pool, first in zip(contents.cells.pools, contents.cells.firsts, strict=True)
    ]
    return {
        "n_tokens": len(contents.ids),
        "n_done": contents.n_done,
        "caches": caches,
        "state_sizes": contents.cells.state_sizes,
        "states": contents.cells.state_lengths,
    }
