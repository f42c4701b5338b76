"""State files of llama.cpp, in and out: sequence files (ggsq, version 3) and sessions (ggsn, 10).

They hold tokens, and keys and values of attention; no logits, samplers, or word of which model it
was. What recurrent layers remember lies there in another form for each architecture: models with
such layers are refused, and so are caches of quantized types.
"""

import logging
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jitllm.backends.base import PAGE_TOKENS
from jitllm.llm.errors import ContextLengthExceeded, StateError, UnsupportedArchitecture
from jitllm.llm.state.cells import Cells
from jitllm.llm.state.contents import Contents
from jitllm.llm.state.counters import counted
from jitllm.llm.state.sequence import Sequence
from jitllm.llm.state.views import LayerCache, places
from jitllm.llm.state_files import layout

if TYPE_CHECKING:
    from jitllm.llm.model import Model

Array = npt.NDArray[Any]
Sizes = tuple[int, int, int]

_log = logging.getLogger("jitllm.state")

_SEQUENCE, _SESSION = (0x67677371, 3), (0x6767736E, 10)  # magic and version
_TYPES: dict[int, np.dtype[Any]] = {
    0: np.dtype(np.float32),
    1: np.dtype(np.float16),
}  # ggml's numbers
_SEVERAL_POSITIONS = (  # cells of these have more than one
    "glm4", "glm4moe", "hunyuan_vl", "paddleocr", "qwen2vl", "qwen3tts", "qwen3vl", "qwen3vlmoe",
    "qwen4exp",
)  # fmt: skip
_NUMBERS = {"f32": 0, "f16": 1}


class _Cache(NamedTuple):
    """One of llama.cpp's caches: that of all positions, or that of windows.

    Its layers in the order of the model's blocks: our cache, the layer there, and its sizes.
    """

    window: int
    layers: list[tuple[int, int, Sizes]]


@dataclass
class _Part:
    """Cells of one sequence, by position: keys [n, G, dk] and values [n, G, dv] of each layer."""

    first: int
    n_cells: int
    rows: list[tuple[Array, Array]]


class _Reader:
    """Numbers from a file, whose every size is checked against what is there."""

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file:
            is_empty = not os.fstat(file.fileno()).st_size
            whole = b"" if is_empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.path, self.data, self.place = path, whole, 0

    def wrong(self, what: str) -> StateError:
        return StateError(f"{self.path}: at byte {self.place}: {what}")

    def array(self, dtype: npt.DTypeLike, n: int) -> Array:
        kind = np.dtype(dtype)
        if not 0 <= n <= (len(self.data) - self.place) // kind.itemsize:
            raise self.wrong(f"expected {n} numbers of {kind.itemsize} bytes, the file ends before")
        found = np.frombuffer(self.data, kind, n, self.place)
        self.place += found.nbytes
        return found

    def number(self, dtype: str = "<u4") -> int:
        return int(self.array(dtype, 1)[0])


def load(model: "Model", path: str | os.PathLike[str], *, seq_id: int = 0) -> Sequence:
    """Return a sequence that llama.cpp saved; its next logits are computed at the first use.

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
        If the model has more to remember than keys and values.
    ContextLengthExceeded
        If `n_ctx` is too small.
    """
    caches, path = _caches(model), Path(path)
    with counted("restore"):
        ids, parts = _read(_Reader(path), model, caches, seq_id)
        contents = Contents(model.engine.new_cells(), ids)
        try:
            contents.n_done = _fill(contents.cells, caches, parts, len(ids))
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
) -> None:
    """Write a sequence as llama.cpp does, as sequence number 0.

    Parameters
    ----------
    sequence : Sequence
        Keys and values become float16, unless its cache has float32.
    path : path
        What is there is replaced.
    session : bool
        For `llama_state_load_file`; else for `llama_state_seq_load_file`.
    flash_attention : bool
        Whether the context that will read it uses it: values lie in another order then.
    n_stream : int
        1 for a context with one sequence or `kv_unified`, else its `n_seq_max`.

    Raises
    ------
    UnsupportedArchitecture
        If the model has more to remember than keys and values.
    OSError
        If it cannot be written; what was there stays.
    """
    model, now, path = sequence.model, sequence.contents, Path(path)
    caches = _caches(model)
    magic, version = _SESSION if session else _SEQUENCE
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with counted("save"):
        try:
            with open(partial, "wb") as file:
                file.write(struct.pack("<3I", magic, version, len(now.ids)))
                file.write(np.array(now.ids, "<i4").tobytes())
                if session:
                    name = model.identity.architecture.encode()
                    file.write(struct.pack("<I", len(name)) + name)
                for cache in caches:
                    for piece in _written(now, cache, n_stream, transposed=not flash_attention):
                        file.write(piece)
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def _caches(model: "Model") -> list[_Cache]:
    """What llama.cpp has for this model, in the order of its files."""
    graph = model.engine.graph
    owners: dict[tuple[int, int], int] = {}
    for block, place in sorted(places(graph).items()):
        owners.setdefault(place, block)
    specs = graph.caches
    sizes = [(i, j) for i, spec in enumerate(specs) for j in range(len(spec.layers))]
    is_plain = not graph.states and not graph.encoder and sorted(owners) == sizes
    has_values = all(dv for spec in specs for _, _, dv in spec.layers)
    name = model.identity.architecture
    has_axes = name in _SEVERAL_POSITIONS and f"{name}.rope.dimension_sections" in model.metadata
    if has_axes or not is_plain or not has_values:
        raise UnsupportedArchitecture(
            "expected a model that keeps keys, values and one position for each token, got "
            f"{name!r}; save its sequences with Sequence.save"
        )
    found = [
        _Cache(window, [(i, j, specs[i].layers[j]) for i, j in owners if specs[i].window == window])
        for window in sorted({0, *(spec.window for spec in specs)})
    ]
    if len(found) > 2:
        raise UnsupportedArchitecture(f"expected windows of one size, got {specs}")
    return found


def _read(
    reader: _Reader, model: "Model", caches: list[_Cache], seq_id: int
) -> tuple[list[int], list[_Part]]:
    kind = reader.number(), reader.number()
    if kind not in (_SEQUENCE, _SESSION):
        raise StateError(
            f"{reader.path}: expected a sequence file of version 3 or a session of version 10 of "
            f"llama.cpp, got magic {kind[0]:#x}, version {kind[1]}"
        )
    ids: list[int] = reader.array("<i4", reader.number()).tolist()
    if ids and not 0 <= min(ids) <= max(ids) < model.n_vocab:
        raise reader.wrong(f"expected tokens from 0 to {model.n_vocab - 1}")
    if len(ids) > model.n_ctx:
        raise ContextLengthExceeded(
            f"{reader.path}: expected at most {model.n_ctx} tokens, got {len(ids)}; load the model "
            "with a larger n_ctx"
        )
    if kind == _SESSION:
        name = reader.array(np.uint8, reader.number()).tobytes()
        if name != model.identity.architecture.encode():
            raise reader.wrong(
                f"expected a {model.identity.architecture!r} model, got {name!r:.80}"
            )
    wanted = seq_id if kind == _SESSION else None
    parts = [_part(reader, cache, wanted) for cache in caches]
    if reader.place != len(reader.data):
        raise reader.wrong("expected the end of the file: this is of another model, or damaged")
    return ids, parts


def _part(reader: _Reader, cache: _Cache, seq_id: int | None) -> _Part:
    """Read one cache: the cells of a sequence, or of whatever sequence there is."""
    found = None
    for _ in range(reader.number()):
        part = _stream(reader, cache, seq_id)
        found = found or part
    return found or _Part(0, 0, [])


def _stream(reader: _Reader, cache: _Cache, seq_id: int | None) -> _Part | None:
    n_cells = reader.number()
    if not n_cells:
        return None
    positions, own = [], []
    for i in range(n_cells):
        position, n_sequences = reader.number("<i4"), reader.number()
        sequences = reader.array("<i4", n_sequences)
        if seq_id is None or seq_id in sequences:
            positions.append(position)
            own.append(i)
    rows = list(_rows(reader, cache, n_cells))
    if not own:
        return None
    order = np.argsort(positions, kind="stable")
    first = positions[order[0]]
    if first < 0 or not np.array_equal(np.sort(positions), first + np.arange(len(own))):
        raise reader.wrong("expected cells of consecutive positions, one for each")
    picked = np.array(own)[order]
    return _Part(first, len(own), [(k[picked], v[picked]) for k, v in rows])


def _rows(reader: _Reader, cache: _Cache, n_cells: int) -> Iterator[tuple[Array, Array]]:
    """Yield keys [n, G, dk] and values [n, G, dv] of each layer, as views."""
    is_transposed, n_layers = reader.number(), reader.number()
    if is_transposed > 1 or n_layers != len(cache.layers):
        raise reader.wrong(f"expected {len(cache.layers)} layers, got {n_layers}")
    keys = []
    for _, _, (heads, dk, _) in cache.layers:
        dtype = _dtype(reader)
        if (size := reader.number("<u8")) != heads * dk * dtype.itemsize:
            raise reader.wrong(f"expected {heads} * {dk} {dtype} in a key, got {size} bytes")
        keys.append(reader.array(dtype, n_cells * heads * dk).reshape(n_cells, heads, dk))
    for k, (_, _, (heads, _, dv)) in zip(keys, cache.layers, strict=True):
        dtype, width = _dtype(reader), heads * dv
        found = (reader.number(), reader.number()) if is_transposed else (reader.number("<u8"),)
        if found not in ((dtype.itemsize, width), (width * dtype.itemsize,)):
            raise reader.wrong(f"expected {heads} * {dv} {dtype} in a value, got {found}")
        v = reader.array(dtype, n_cells * width)
        v = v.reshape(width, n_cells).T if is_transposed else v
        yield k, v.reshape(n_cells, heads, dv)


def _dtype(reader: _Reader) -> np.dtype[Any]:
    number = reader.number("<i4")
    if number not in _TYPES:
        raise reader.wrong(
            f"expected keys and values of type 0 (float32) or 1 (float16), got type {number}; save "
            "from a context with --cache-type-k f16 --cache-type-v f16"
        )
    return _TYPES[number]


def _fill(cells: Cells, caches: list[_Cache], parts: list[_Part], n_tokens: int) -> int:
    """Write cells; returns how many tokens can go on from them."""
    owners = {i: (cache, part) for cache, part in zip(caches, parts, strict=True)
              for i, _, _ in cache.layers}  # fmt: skip
    ends = {part.first + part.n_cells for _, part in owners.values()}
    if len(ends) > 1:
        raise StateError(f"expected caches that end with one token, these end behind {ends}")
    n_done = min(*ends, n_tokens)
    if not n_done:
        return 0
    firsts = [
        max(0, n_done - pool.window) // PAGE_TOKENS * PAGE_TOKENS if pool.window else 0
        for pool in cells.pools
    ]
    if any(part.first > firsts[i] for i, (_, part) in owners.items()):
        _log.warning("%d tokens must be computed again: windows are kept in whole pages of %d "
                     "tokens, and the file has less", n_tokens, PAGE_TOKENS)  # fmt: skip
        return 0
    cells.begin(firsts, n_done)
    for i, (cache, part) in owners.items():
        here = {(i, j): both for (i, j, _), both in zip(cache.layers, part.rows, strict=True)}
        rows = [here[i, j] for j in range(len(cells.pools[i].pool.spec.layers))]
        for start in range(firsts[i], n_done, PAGE_TOKENS):
            stop = min(n_done, start + PAGE_TOKENS)
            own = slice(start - part.first, stop - part.first)
            numbers = [x[own].swapaxes(0, 1) for both in rows for x in both]
            cells.write(i, start, stop, _packed(cells, i, stop - start, numbers))
    return n_done


def _packed(cells: Cells, cache: int, n_cells: int, numbers: list[Array]) -> layout.Bytes:
    """Return keys and values [G, n, size] of all layers of a cache as its cells."""
    pool = cells.pools[cache].pool
    layers, kv_dtype = pool.spec.layers, pool.kv_dtype
    data = np.empty(layout.n_bytes(layers, kv_dtype, n_cells), np.uint8)
    views = layout.parts(layers, kv_dtype, data, n_cells)
    for (how, view), x in zip(views, numbers, strict=True):
        view[...] = how.encode(x.astype(np.float32))
    return data


def _written(now: Contents, cache: _Cache, n_stream: int, *, transposed: bool) -> Iterator[bytes]:
    """Yield the bytes of one cache: positions first, then all keys, then all values."""
    begin = max(0, now.n_done - cache.window) if cache.window else 0
    first = begin // PAGE_TOKENS * PAGE_TOKENS  # whole pages, so that `load` can use them
    positions = np.arange(first, now.n_done)
    n_cells = len(positions)
    yield struct.pack("<2I", n_stream, n_cells)
    if n_cells:
        meta = np.zeros((n_cells, 3), "<i4")
        meta[:, 0], meta[:, 1] = positions, 1
        yield meta.tobytes()
        yield struct.pack("<2I", transposed, len(cache.layers))
        yield from _written_rows(now, cache, first, transposed=transposed)
    yield bytes(4 * (n_stream - 1))  # the other streams have no cells


def _written_rows(now: Contents, cache: _Cache, first: int, *, transposed: bool) -> Iterator[bytes]:
    for part in (0, 1):
        for i, j, _ in cache.layers:
            view = LayerCache(now, i, j)
            rows = view.read()[part][first - view.first :]
            kind = "f32" if now.cells.pools[i].pool.kv_dtype == "f32" else "f16"
            flat = rows.reshape(len(rows), -1).astype(_TYPES[_NUMBERS[kind]])
            if part and transposed:
                yield struct.pack("<iII", _NUMBERS[kind], flat.itemsize, flat.shape[1])
                yield flat.T.tobytes()
            else:
                yield struct.pack("<iQ", _NUMBERS[kind], flat.shape[1] * flat.itemsize)
                yield flat.tobytes()
