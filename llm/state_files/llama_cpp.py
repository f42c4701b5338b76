"""State files of llama.cpp, in and out: sequence files (ggsq, version 3) and sessions (ggsn, 10).

They hold tokens, keys and values of attention, and states of recurrent layers; no logits, samplers,
or word of which model it was.
"""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jitllm.backends.base import PAGE_TOKENS
from jitllm.kernels import cache_types
from jitllm.kernels.cache_types import Rows
from jitllm.llm.errors import ContextLengthExceeded, StateError
from jitllm.llm.state.cells import Cells
from jitllm.llm.state.contents import Contents
from jitllm.llm.state.counters import counted
from jitllm.llm.state.sequence import Sequence
from jitllm.llm.state_files import layout
from jitllm.llm.state_files.llama_cpp_memory import Memory, memory_of
from jitllm.llm.state_files.llama_cpp_reader import Found, Part, Stored, read
from jitllm.llm.state_files.llama_cpp_writer import Form, pieces

if TYPE_CHECKING:
    from jitllm.llm.model import Model

Array = npt.NDArray[Any]

_log = logging.getLogger("jitllm.state")


def load(model: "Model", path: str | os.PathLike[str], *, seq_id: int = 0) -> Sequence:
    """Return a sequence that llama.cpp saved.

    Logits are not in the file. Those behind its last token need that token again, and with it all
    of them where recurrent layers keep a state: append a token, and only that one is computed.

    Parameters
    ----------
    model : Model
        The one that it was: the file does not say which.
    path : path
        Of `llama_state_seq_save_file`, or of `llama_state_save_file`.
    seq_id : int
        Which sequence of a session.

    Raises
    ------
    StateError
        If the file is none, is damaged, or is of a model of other sizes.
    UnsupportedArchitecture
        If llama.cpp remembers what cannot be made of what is here, or the other way round.
    ContextLengthExceeded
        If `n_ctx` is too small.
    """
    memory, path = memory_of(model), Path(path)
    with counted("restore"):
        name = model.identity.architecture
        found = read(path, memory, name, model.n_vocab, model.n_ctx, seq_id)
        if len(found.ids) > model.n_ctx:
            raise ContextLengthExceeded(
                f"{path}: expected at most {model.n_ctx} tokens, got {len(found.ids)}; load the "
                "model with a larger n_ctx"
            )
        contents = Contents(model.engine.new_cells(), found.ids)
        try:
            contents.n_done = _fill(contents.cells, memory, found)
            contents.cells.graph = None  # another program computed them
        except BaseException:
            contents.cells.release()
            raise
    return Sequence(model, contents)


def save(
    sequence: Sequence,
    path: str | os.PathLike[str],
    *,
    session: bool = False,
    flash_attention: bool = True,
    n_stream: int = 1,
    kv_dtype: str | None = None,
) -> None:
    """Write a sequence as llama.cpp does, as sequence number 0.

    Parameters
    ----------
    sequence : Sequence
    path : path
        What is there is replaced.
    session : bool
        For `llama_state_load_file`; else for `llama_state_seq_load_file`.
    flash_attention : bool
        Whether the context that will read it uses it: values lie in another order then.
    n_stream : int
        1 for a context with one sequence or `kv_unified`, else its `n_seq_max`.
    kv_dtype : str, optional
        The types of that context's cache, as for `load`; by default those of this model's.

    Raises
    ------
    UnsupportedArchitecture
        If llama.cpp remembers what cannot be made of what is here, or the other way round.
    StateError
        If a cache cannot have these types.
    OSError
        If it cannot be written; what was there stays.
    """
    model, path = sequence.model, Path(path)
    memory, now = memory_of(model), sequence.contents
    own = [pages.pool.kv_dtype for pages in now.cells.pools]
    try:
        kinds = cache_types.pair(kv_dtype or (own[0] if own else "f16"))
    except ValueError as error:
        raise StateError(str(error)) from error
    form = Form(session, not flash_attention, n_stream, kinds)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with counted("save"):
        try:
            with open(partial, "wb") as file:
                for piece in pieces(now, memory, model.identity.architecture, form):
                    file.write(piece)
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def _fill(cells: Cells, memory: Memory, found: Found) -> int:
    """Write cells and states; returns how many tokens can go on from them."""
    ends = {part.first + part.n_cells for part in found.parts}
    if memory.states:
        ends.add(found.states[0] if found.states else 0)
    if len(ends) > 1:
        raise StateError(f"expected caches that end with one token, these end behind {ends}")
    n_done = min(*ends, len(found.ids))
    owners = {layer.cache: part for part_of, part in zip(memory.caches, found.parts, strict=True)
              for layer in part_of.layers}  # fmt: skip
    if not n_done or not _is_enough(cells, owners, found, n_done):
        return 0
    firsts = [
        max(owners[i].first, (n_done - pool.window) // PAGE_TOKENS * PAGE_TOKENS)
        if pool.window else 0 for i, pool in enumerate(cells.pools)
    ]  # fmt: skip
    cells.begin(firsts, n_done)
    there = _by_layer(memory, found.parts)
    for i, start in enumerate(firsts):
        while start < n_done:
            stop = min(n_done, (start // PAGE_TOKENS + 1) * PAGE_TOKENS)
            own = slice(start - owners[i].first, stop - owners[i].first)
            cells.write(i, start, stop, _packed(cells, i, own, there))
            start = stop
    if found.states:
        states = [found.states[1][number] for number in range(len(cells.state_sizes))]
        cells.put_states(n_done, np.concatenate(states))
    return n_done


def _is_enough(cells: Cells, owners: dict[int, Part], found: Found, n_done: int) -> bool:
    """Return whether a sequence can go on behind `n_done` tokens; else say why not."""
    seen = [max(0, n_done - pool.window) if pool.window else 0 for pool in cells.pools]
    if any(part.first > seen[i] for i, part in owners.items()):
        reason = "it lacks cells that a sliding window sees"
    elif found.states and found.states[0] > n_done:
        reason = f"its states are those behind {found.states[0]} tokens"
    else:
        return True
    _log.warning("%d tokens of a file must be computed again: %s", len(found.ids), reason)
    return False


_Layers = dict[tuple[int, int], tuple[Stored, Stored | None]]


def _by_layer(memory: Memory, parts: list[Part]) -> _Layers:
    return {
        (layer.cache, layer.layer): both
        for part_of, part in zip(memory.caches, parts, strict=True)
        for layer, both in zip(part_of.layers, part.rows, strict=True)
    }


def _packed(cells: Cells, cache: int, own: slice, there: _Layers) -> layout.Bytes:
    """Return some cells of a file as those of one of our caches."""
    pool, n_cells = cells.pools[cache].pool, own.stop - own.start
    layers, kv_dtype = pool.spec.layers, pool.kv_dtype
    data = np.empty(layout.n_bytes(layers, kv_dtype, n_cells), np.uint8)
    views = list(layout.parts(layers, kv_dtype, data, n_cells))
    for j in range(len(layers)):
        keys, values = there[cache, j]
        for (how, view), stored in zip(views[2 * j : 2 * j + 2], (keys, values), strict=True):
            view[...] = _recoded(stored or keys, own, how)
    return data


def _recoded(stored: Stored, own: slice, how: Rows) -> Array:
    """Return rows of a file [n, G, items] as ours [G, n, items].

    Values of latent attention are the first columns of its keys.
    """
    items = stored.items[own].swapaxes(0, 1)
    same = stored.rows.kind, stored.rows.hadamard, stored.rows.width
    if same == (how.kind, how.hadamard, how.width):
        return items
    with np.errstate(over="ignore", invalid="ignore"):  # the file may be damaged
        return how.encode(stored.rows.decode(items)[..., : how.width])
