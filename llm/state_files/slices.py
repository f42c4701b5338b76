"""Parts of a saved sequence as arrays: keys and values of a block, recurrent states."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from jitllm.llm.errors import StateError
from jitllm.llm.state_files import layout
from jitllm.llm.state_files.checkpoint import CacheHead, Checkpoint

if TYPE_CHECKING:
    from jitllm.llm.state_files.file import Chunk, StateFile

Floats = npt.NDArray[np.float32]


def read_cells(
    file: "StateFile", checkpoint: Checkpoint, block: int, start: int, stop: int | None
) -> tuple[Floats, Floats]:
    """Return keys [n, heads, dk] and values [n, heads, dv]; see `StateFile.read_cells`."""
    if block not in checkpoint.blocks:
        raise StateError(
            f"{file.path}: {checkpoint}: expected a block with a cache, one of "
            f"{sorted(checkpoint.blocks)}, got {block}"
        )
    number, layer = checkpoint.blocks[block]
    cache = checkpoint.caches[number]
    stop = checkpoint.n_done if stop is None else stop
    if not 0 <= start <= stop <= checkpoint.n_done:
        raise StateError(
            f"{file.path}: {checkpoint}: expected cells from 0 to {checkpoint.n_done}, in order; "
            f"got {start} to {stop}"
        )
    keys, values = [_empty(cache, layer, part) for part in (0, 1)]
    found = [(keys, values)]
    for chunk in file.chunks(checkpoint):
        if chunk.cache == number and chunk.stop > start and chunk.start < stop:
            if chunk.start > start:
                break
            found.append(_cut(file, chunk, cache, layer, start, min(stop, chunk.stop)))
            start = min(stop, chunk.stop)
    if start < stop:
        raise StateError(
            f"{file.path}: {checkpoint}: the cells {start} to {stop - 1} of block {block} are not "
            "held: they fell out of a sliding window, were not saved, or are lost"
        )
    k, v = (np.concatenate(half) for half in zip(*found, strict=True))
    return k, v


def _empty(cache: CacheHead, layer: int, part: int) -> Floats:
    heads, *sizes = cache.layers[layer]
    return np.empty((0, heads, sizes[part]), np.float32)


def _cut(
    file: "StateFile", chunk: "Chunk", cache: CacheHead, layer: int, start: int, stop: int
) -> tuple[Floats, Floats]:
    """The cells start to stop - 1 of a chunk, keys and values of one layer."""
    rows = slice(start - chunk.origin, stop - chunk.origin)
    parts = layout.parts(cache.layers, cache.kv_dtype, file.cells(chunk, cache), chunk.count)
    k, v = list(parts)[2 * layer : 2 * layer + 2]
    keys, values = (how.decode(items[:, rows]).swapaxes(0, 1) for how, items in (k, v))
    return keys, values


def read_states(file: "StateFile", checkpoint: Checkpoint, n_tokens: int) -> Iterator[Floats]:
    """Yield each state behind some tokens, float32 [n]."""
    ends = np.cumsum(checkpoint.state_sizes)[:-1]
    yield from np.split(file.state(checkpoint, n_tokens).copy(), ends)
