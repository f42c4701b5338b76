"""What cannot be truncated, put back from a file into a sequence that has all the rest."""

from typing import TYPE_CHECKING

from jitllm.llm.errors import StateError
from jitllm.llm.state.cells import Cells
from jitllm.llm.state.contents import Contents
from jitllm.llm.state.counters import counted
from jitllm.llm.state_files.checkpoint import Checkpoint
from jitllm.llm.state_files.file import StateFile
from jitllm.llm.state_files.restoring import (
    check_fits,
    fill_rest,
    ids_of,
    is_exact,
    pieces_of,
    states_of,
    write_piece,
)

if TYPE_CHECKING:
    from jitllm.llm.model import Model


def restore_states(
    file: StateFile, checkpoint: Checkpoint, model: "Model", now: Contents, *, force: bool = False
) -> Contents:
    """Return a checkpoint's contents, which the caller owns; cells of full attention are `now`'s.

    Parameters
    ----------
    file : StateFile
    checkpoint : Checkpoint
    model : Model
    now : Contents
        Stay as they are; their tokens begin with the checkpoint's, and have cells.
    force : bool
        Take the state of another model, if its caches have the same sizes.

    Raises
    ------
    StateError
        If that is not so, or a state or window cannot be read, or is of another model.
    """
    with counted("restore"):
        return _restored(file, checkpoint, model, now, force)


def _restored(
    file: StateFile, checkpoint: Checkpoint, model: "Model", now: Contents, force: bool
) -> Contents:
    check_fits(file, checkpoint, model, now.cells, force)
    ids = ids_of(file, checkpoint, file.tokens(checkpoint), model.n_vocab)
    n_done = checkpoint.n_done
    if now.ids[: len(ids)] != ids or now.n_done < n_done:
        raise StateError(
            f"{file.path}: {checkpoint}: expected a sequence that begins with its {len(ids)} tokens"
            f" and has cells of {n_done}, got one of {len(now.ids)} tokens, {now.n_done} with cells"
        )
    contents = Contents(now.cells.fork(), ids, list(now.source), n_done)
    try:
        _fill(contents.cells, file, checkpoint)
        fill_rest(contents, file, checkpoint, model)
    except BaseException:
        contents.cells.release()
        raise
    if not is_exact(checkpoint, model):
        contents.cells.graph = None
    contents.lineage = now.lineage and now.lineage.cut(n_done)
    return contents


def _fill(cells: Cells, file: StateFile, checkpoint: Checkpoint) -> None:
    n_done, caches, states = checkpoint.n_done, checkpoint.caches, states_of(file, checkpoint)
    ends = [cache.first if cache.window else n_done for cache in caches]
    cells.begin_windows([cache.first for cache in caches], n_done)
    for piece in pieces_of(file, checkpoint):
        if caches[piece.cache].window:
            write_piece(cells, caches[piece.cache], piece, n_done)
            ends[piece.cache] = piece.stop
    if min(ends, default=n_done) < n_done or (
        cells.state_sizes and n_done and n_done not in states
    ):
        raise StateError(
            f"{file.path}: {checkpoint}: expected whole states and windows of {n_done} tokens, "
            f"some cannot be read{file.told_damages()}; the sequence stays as it was"
        )
    for n in sorted(states):
        cells.put_states(n, states[n])
