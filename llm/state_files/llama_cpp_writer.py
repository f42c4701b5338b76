"""State files of llama.cpp, written: what a sequence of ours remembers, piece by piece."""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jitllm.backends.base import PAGE_TOKENS
from jitllm.kernels import cache_types
from jitllm.kernels.cache_types import Rows
from jitllm.kernels.formats.ids import TENSOR_TYPES
from jitllm.llm.errors import StateError
from jitllm.llm.state.cells import Cells
from jitllm.llm.state.contents import Contents
from jitllm.llm.state_files import layout
from jitllm.llm.state_files.llama_cpp_memory import CacheLayer, CachePart, Memory
from jitllm.llm.state_files.llama_cpp_reader import SEQUENCE, SESSION
from jitllm.llm.state_files.llama_cpp_states import LayerStates

Array = npt.NDArray[Any]


class Form(NamedTuple):
    """What the context that reads the file is like.

    Attributes
    ----------
    session : bool
        Whether `llama_state_load_file` reads it, not `llama_state_seq_load_file`.
    transposed : bool
        Whether values lie column by column: without flash attention.
    n_stream : int
    kinds : (str, str)
        Types of its keys and values.
    """

    session: bool
    transposed: bool
    n_stream: int
    kinds: tuple[str, str]


def pieces(now: Contents, memory: Memory, architecture: str, form: Form) -> Iterator[bytes]:
    """Yield the bytes of a file.

    Raises
    ------
    StateError
        If a cache of these types cannot be written.
    """
    has_index = any(layer.is_index and layer.dv for part in memory.caches for layer in part.layers)
    if form.transposed and (has_index or cache_types.is_quantized(form.kinds[1])):
        raise StateError(
            f"expected flash attention: llama.cpp has no caches of {architecture!r} models with "
            f"values of type {form.kinds[1]} without it"
        )
    magic, version = SESSION if form.session else SEQUENCE
    yield struct.pack("<3I", magic, version, len(now.ids))
    yield np.array(now.ids, "<i4").tobytes()
    if form.session:
        yield struct.pack("<I", len(architecture)) + architecture.encode()
    for part in memory.caches:
        yield from _cache(now, part, form, has_axes=memory.has_axes)
    if memory.states:
        yield from _states(now, memory, form)


def _cache(now: Contents, part: CachePart, form: Form, *, has_axes: bool) -> Iterator[bytes]:
    """Yield the bytes of one cache: positions first, then all keys, then all values."""
    first = _first(now, part, form)
    n_cells = now.n_done - first
    yield struct.pack("<2I", form.n_stream, n_cells)
    if n_cells:
        heads = np.zeros((n_cells, 6 if has_axes else 3), "<i4")
        heads[:, 0], heads[:, 1] = np.arange(first, now.n_done), 1
        if has_axes:  # two more positions and the token, before the sequence's number
            heads[:, 2] = heads[:, 3] = heads[:, 0]
            heads[:, 4] = now.ids[first : now.n_done]
        yield heads.tobytes()
        yield struct.pack("<2I", form.transposed, len(part.layers))
        yield from _keys_and_values(now.cells, part, form, first, now.n_done)
    yield bytes(4 * (form.n_stream - 1))  # the other streams have no cells


def _first(now: Contents, part: CachePart, form: Form) -> int:
    """The first position: that of llama.cpp, or, in a session, which has room, of whole pages."""
    if not part.window:
        return 0
    first = max(0, now.n_done - part.window)
    if form.session:
        first = first // PAGE_TOKENS * PAGE_TOKENS
    return max([first, *(now.cells.firsts[layer.cache] for layer in part.layers)])


def _keys_and_values(
    cells: Cells, part: CachePart, form: Form, start: int, stop: int
) -> Iterator[bytes]:
    here = {i: _read(cells, i, start, stop) for i in {layer.cache for layer in part.layers}}
    for layer in part.layers:
        rows, items = part.keys(layer, form.kinds[0]), here[layer.cache][2 * layer.layer]
        yield struct.pack("<i", TENSOR_TYPES[rows.kind.upper()].id)
        yield struct.pack("<Q", _row_bytes(rows)) + _recoded(*items, rows).tobytes()
    for layer in part.layers:
        if layer.dv:
            yield from _value(part, layer, form, *here[layer.cache][2 * layer.layer + 1])


def _value(
    part: CachePart, layer: CacheLayer, form: Form, how: Rows, items: Array
) -> Iterator[bytes]:
    rows = part.values(layer, form.kinds[1])
    values = _recoded(how, items, rows)
    yield struct.pack("<i", TENSOR_TYPES[rows.kind.upper()].id)
    if form.transposed:
        yield struct.pack("<2I", rows.dtype.itemsize, rows.heads * rows.width)
        yield values.reshape(len(values), -1).T.tobytes()
    else:
        yield struct.pack("<Q", _row_bytes(rows)) + values.tobytes()


def _row_bytes(rows: Rows) -> int:
    try:
        return rows.nbytes
    except ValueError as error:
        raise StateError(str(error)) from error


def _read(cells: Cells, cache: int, start: int, stop: int) -> list[tuple[Rows, Array]]:
    """Return keys, then values, of each layer of a cache: how they are stored, [n, G, items]."""
    pool = cells.pools[cache].pool
    layers, kind = pool.spec.layers, pool.kv_dtype
    found: list[list[Array]] = [[] for _ in range(2 * len(layers))]
    hows: list[Rows] = []
    while start < stop:
        end = min(stop, (start // PAGE_TOKENS + 1) * PAGE_TOKENS)
        views = list(layout.parts(layers, kind, cells.read(cache, start, end), end - start))
        hows = [how for how, _ in views]
        for items, (_, view) in zip(found, views, strict=True):
            items.append(view.swapaxes(0, 1))
        start = end
    return [(how, np.concatenate(items)) for how, items in zip(hows, found, strict=True)]


def _recoded(how: Rows, items: Array, rows: Rows) -> Array:
    """Return items stored in one way as they are in another; as they are, if it is the same."""
    if (how.kind, how.hadamard, how.width) == (rows.kind, rows.hadamard, rows.width):
        return items
    if not how.width:  # nothing reads them
        return np.zeros((len(items), rows.heads, rows.n_items), rows.dtype)
    return rows.encode(how.decode(items))


def _states(now: Contents, memory: Memory, form: Form) -> Iterator[bytes]:
    """Yield the states of recurrent layers behind the last token that has cells: all R, all S."""
    cells, n_cells = now.cells, int(now.n_done > 0)
    yield struct.pack("<I", n_cells)
    values: list[Array] = []
    if n_cells:
        meta = [now.n_done - 1, 1, 0] if form.session else [now.n_done - 1, 0]
        yield struct.pack(f"<{len(meta)}i", *meta)
        values = np.split(cells.read_states(now.n_done), np.cumsum(cells.state_sizes)[:-1])
    yield struct.pack("<2I", 0, memory.n_layers)
    for row in range(len(LayerStates._fields)):
        for layer in memory.states:
            yield struct.pack("<iQ", 0, 4 * sum(state.size for state in layer[row]))
            for state in layer[row] if n_cells else ():
                yield state.there(values[state.number]).astype("<f4").tobytes()
