"""A checkpoint of a state file into the memory of a sequence: all that can be used, or nothing."""

import logging
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from jitllm.llm.errors import ContextLengthExceeded, StateError
from jitllm.llm.state.cells import Cells
from jitllm.llm.state.contents import Contents
from jitllm.llm.state.continuation import load_continuation
from jitllm.llm.state.counters import counted
from jitllm.llm.state.logits import Logits
from jitllm.llm.state_files import layout
from jitllm.llm.state_files.checkpoint import CacheHead, Checkpoint
from jitllm.llm.state_files.file import Lineage, StateFile
from jitllm.llm.state_files.log import Array

if TYPE_CHECKING:
    from jitllm.llm.model import Model

_log = logging.getLogger("jitllm.state")

Floats = npt.NDArray[np.float32]


class Piece(NamedTuple):
    """Cells `start` to `stop - 1` of a cache, their bytes checked."""

    cache: int
    start: int
    stop: int
    data: layout.Bytes


def restore(
    file: StateFile,
    checkpoint: Checkpoint,
    model: "Model",
    *,
    force: bool = False,
) -> Contents:
    """Return a checkpoint's contents, which the caller owns.

    Where cells or states are damaged, those before them are used: the tokens are whole, and the
    rest is computed again at the next use, to the same bits.

    Parameters
    ----------
    file : StateFile
    checkpoint : Checkpoint
    model : Model
    force : bool
        Take the state of another model, if its caches have the same sizes.

    Raises
    ------
    StateError
        If it is of another model, has other sizes, or its tokens are damaged.
    ContextLengthExceeded
        If the model's context is too short.
    """
    started = time.perf_counter()
    contents = Contents(model.engine.new_cells())
    try:
        with counted("restore"):
            _fill(contents, file, checkpoint, model, force)
    except BaseException:  # nothing half restored stays
        contents.cells.release()
        raise
    ms = 1e3 * (time.perf_counter() - started)
    _log.info("restored %s of %d tokens from %s: %d bytes, %.1f ms",
              checkpoint, len(contents.ids), file.path, contents.cells.nbytes, ms)  # fmt: skip
    if contents.n_done < checkpoint.n_done:
        reason = "is damaged" if checkpoint.is_whole else "holds no cells of full attention"
        _log.warning("%s: %s %s%s: %d of %d tokens must be computed again",
                     file.path, checkpoint, reason, file.told_damages(),
                     checkpoint.n_done - contents.n_done, len(contents.ids))  # fmt: skip
    return contents


def _fill(
    contents: Contents, file: StateFile, checkpoint: Checkpoint, model: "Model", force: bool
) -> None:
    cells = contents.cells
    check_fits(file, checkpoint, model, cells, force)
    contents.ids = ids_of(file, checkpoint, file.tokens(checkpoint), model.n_vocab)
    if "source" in checkpoint.record.entries:
        source = file.array(checkpoint, "source")
        contents.source = ids_of(file, checkpoint, source, model.n_vocab, model.engine.max_source)
        model.engine.encode(cells, contents.source, np.empty(0, np.intp))
    contents.n_done = _fill_cells(cells, file, checkpoint)
    if not is_exact(checkpoint, model):
        cells.graph = None
    fill_rest(contents, file, checkpoint, model)
    types = [cache.kv_dtype for cache in checkpoint.caches]
    is_same = types == [pool.pool.kv_dtype for pool in cells.pools]
    n_same = contents.n_done if is_same else 0
    contents.lineage = Lineage(file.path, checkpoint.key, len(contents.ids), n_same)


def is_exact(checkpoint: Checkpoint, model: "Model") -> bool:
    """Return whether its cells are what this model would compute, bit for bit."""
    is_own = model.engine.graph is model.engine.own_graph
    found = checkpoint.model, checkpoint.computed_by
    return is_own and found == (model.identity.brief(), model.settings)


def fill_rest(contents: Contents, file: StateFile, checkpoint: Checkpoint, model: "Model") -> None:
    """Take logits and the generation under way."""
    logits = _logits(file, checkpoint, model)
    contents.last = None if logits is None else (len(contents.ids), Logits(logits))
    if checkpoint.sampler is not None:
        contents.continuation = load_continuation(
            checkpoint.sampler, lambda name: file.array(checkpoint, name), model
        )


def _fill_cells(cells: Cells, file: StateFile, checkpoint: Checkpoint) -> int:
    """Write cells and states; returns how many tokens can go on from them."""
    pieces, states = list(pieces_of(file, checkpoint)), states_of(file, checkpoint)
    n_done = _usable(checkpoint, cells, pieces, states)
    cells.begin([min(c.first, n_done) for c in checkpoint.caches], n_done)
    for piece in pieces:
        write_piece(cells, checkpoint.caches[piece.cache], piece, n_done)
    for n in sorted(states):
        if n <= n_done:
            cells.put_states(n, states[n])
    return n_done


def check_fits(
    file: StateFile, checkpoint: Checkpoint, model: "Model", cells: Cells, force: bool
) -> None:
    """Raise what `restore` says if it is of another model, has other sizes, or is too long."""
    mine = model.identity.brief()
    if checkpoint.model != mine and not force:
        raise StateError(
            f"{file.path}: {checkpoint}: expected a state of {mine}, got one of "
            f"{dict(checkpoint.model)}; load that model"
        )
    if checkpoint.n_tokens > model.n_ctx:
        raise ContextLengthExceeded(
            f"{file.path}: {checkpoint}: expected at most {model.n_ctx} tokens, got "
            f"{checkpoint.n_tokens}; load the model with a larger n_ctx"
        )
    theirs = [(c.window, c.layers) for c in checkpoint.caches], list(checkpoint.state_sizes)
    ours = [(p.window, p.pool.spec.layers) for p in cells.pools], cells.state_sizes
    if theirs != ours:
        raise StateError(
            f"{file.path}: {checkpoint}: expected caches and states of {ours}, got {theirs}; it is "
            "the state of another model"
        )
    for found, pool in zip(checkpoint.caches, cells.pools, strict=True):
        layout.n_bytes(found.layers, found.kv_dtype, 0)
        if found.kv_dtype != pool.pool.kv_dtype:
            _log.warning("%s: %s: a cache of type %s is converted to %s; the model's next logits "
                         "will differ in the last digits",
                         file.path, checkpoint, found.kv_dtype, pool.pool.kv_dtype)  # fmt: skip


def ids_of(
    file: StateFile, checkpoint: Checkpoint, found: Array, n_vocab: int, most: int | None = None
) -> list[int]:
    """Return tokens as a list; StateError if the model has not such, or not so many."""
    ids: list[int] = found.tolist() if found.dtype == np.int32 and found.ndim == 1 else [-1]
    if ids and not (0 <= min(ids) <= max(ids) < n_vocab and (most is None or len(ids) <= most)):
        raise StateError(
            f"{file.path}: {checkpoint}: expected tokens from 0 to {n_vocab - 1}"
            + (f", at most {most}" if most is not None else "")
            + f", got {len(ids)} from {min(ids)} to {max(ids)}"
        )
    return ids


def pieces_of(file: StateFile, checkpoint: Checkpoint) -> Iterator[Piece]:
    """Yield the cells that can be read, each cache's without a gap from its first on."""
    ends = [cache.first for cache in checkpoint.caches]
    damaged: set[int] = set()
    for chunk in file.chunks(checkpoint):
        if chunk.cache >= len(ends) or chunk.cache in damaged or chunk.stop <= ends[chunk.cache]:
            continue
        cache = checkpoint.caches[chunk.cache]
        try:
            data = file.cells(chunk, cache)
        except StateError as error:
            _log.warning("%s", error)
            damaged.add(chunk.cache)
            continue
        if chunk.start > ends[chunk.cache]:
            damaged.add(chunk.cache)
            continue
        start = ends[chunk.cache]
        ends[chunk.cache] = chunk.stop
        own = start - chunk.origin, chunk.stop - chunk.origin
        part = layout.cut(cache.layers, cache.kv_dtype, data, chunk.count, *own)
        yield Piece(chunk.cache, start, chunk.stop, part)


def states_of(file: StateFile, checkpoint: Checkpoint) -> dict[int, Floats]:
    """Return the states that can be read, by the number of tokens that they are behind."""
    found = {}
    for n in checkpoint.states:
        try:
            found[n] = file.state(checkpoint, n)
        except StateError as error:
            _log.warning("%s", error)
    return found


def _usable(
    checkpoint: Checkpoint, cells: Cells, pieces: list[Piece], states: Mapping[int, Floats]
) -> int:
    """Return how many tokens can go on from what was read."""
    n_done = checkpoint.n_done
    for i, cache in enumerate(checkpoint.caches):
        last = max((p.stop for p in pieces if p.cache == i), default=cache.first)
        n_done = min(n_done, last if last > cache.first else 0)
    if cells.state_sizes:
        n_done = max((n for n in states if n <= n_done), default=0)
    gone = any(c.first > max(0, n_done - c.window) for c in checkpoint.caches if c.first)
    return 0 if gone else n_done


def write_piece(cells: Cells, cache: CacheHead, piece: Piece, n_done: int) -> None:
    """Write the cells of a piece that are before `n_done`, as the pool's type."""
    stop = min(piece.stop, n_done)
    if piece.start >= stop:
        return
    count = piece.stop - piece.start
    old, new = cache.kv_dtype, cells.pools[piece.cache].pool.kv_dtype
    data = layout.cut(cache.layers, old, piece.data, count, 0, stop - piece.start)
    data = layout.converted(cache.layers, old, new, data, stop - piece.start)
    cells.write(piece.cache, piece.start, stop, data)


def _logits(file: StateFile, checkpoint: Checkpoint, model: "Model") -> Floats | None:
    """The logits, if they are there and whole; else they are computed again."""
    if "logits" not in checkpoint.record.entries:
        return None
    try:
        logits = file.array(checkpoint, "logits")
    except StateError as error:
        _log.warning("%s", error)
        return None
    fits = logits.dtype == np.float32 and logits.shape == (model.n_vocab,)
    return logits.copy() if fits else None
