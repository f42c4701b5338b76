"""Cells of chosen blocks and tokens in a state file: written and put back without the rest."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jitllm.backends.base import PAGE_TOKENS, Bytes
from jitllm.llm.errors import StateError
from jitllm.llm.state.contents import Contents
from jitllm.llm.state.views import places
from jitllm.llm.state_files import layout
from jitllm.llm.state_files.file import StateFile
from jitllm.llm.state_files.log import Array, Record

if TYPE_CHECKING:
    from jitllm.llm.model import Model

KIND = "cells"


class _Place(NamedTuple):
    """Cells of one block that lie in one page."""

    block: int
    cache: int
    layer: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"block.{self.block}.{self.start}-{self.stop}"


@dataclass(frozen=True, slots=True)
class CellRange:
    """Cells of some blocks and tokens in a file.

    Attributes
    ----------
    label : str
    start, stop : int
        Tokens `start` to `stop` - 1.
    blocks : tuple of int
    record : Record
    """

    label: str
    start: int
    stop: int
    blocks: tuple[int, ...]
    record: Record

    @classmethod
    def of(cls, record: Record) -> "CellRange":
        """Read a record's head; StateError if it makes no sense."""
        head = record.head
        try:
            blocks = tuple(int(block) for block in head["blocks"])
            return cls(str(head["label"]), int(head["start"]), int(head["stop"]), blocks, record)
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"a range of cells whose head makes no sense: {error!r}") from error


def ranges(file: StateFile) -> list[CellRange]:
    """Return the ranges of cells in a file, oldest first."""
    return [CellRange.of(record) for record in file.records if record.head.get("kind") == KIND]


def save_range(
    file: StateFile,
    model: "Model",
    contents: Contents,
    blocks: Iterable[int] | None,
    start: int,
    stop: int | None,
    *,
    label: str,
    sync: bool,
) -> CellRange:
    """Add cells to a file; see `Sequence.save_cells`."""
    stop = contents.n_done if stop is None else stop
    chosen = _places(model, contents, blocks, start, stop)
    arrays: dict[str, Array] = {place.name: _read(contents, place) for place in chosen}
    arrays["tokens"] = np.array(contents.ids[:stop], np.int32)
    head = {
        "kind": KIND,
        "label": label,
        "created": time.time(),
        "start": start,
        "stop": stop,
        "blocks": sorted({place.block for place in chosen}),
        "caches": _sizes(contents, chosen),
        "model": model.identity.brief(),
    }
    return CellRange.of(file.append_record(head, arrays, sync=sync))


def restore_range(file: StateFile, found: CellRange, model: "Model", contents: Contents) -> None:
    """Overwrite cells with those of a file; see `Sequence.restore_cells`."""
    head, tokens = found.record.head, file.read_of(found.record, "tokens").tolist()
    if head.get("model") != model.identity.brief():
        raise StateError(
            f"{file.path}: expected cells of {model.identity.brief()}, got some of "
            f"{head.get('model')!r:.200}"
        )
    if contents.ids[: found.stop] != tokens or contents.n_done < found.stop:
        raise StateError(
            f"{file.path}: expected a sequence that begins with the {len(tokens)} tokens of these "
            f"cells and has their cells, got one of {len(contents.ids)} tokens, "
            f"{contents.n_done} with cells"
        )
    chosen = _places(model, contents, found.blocks, found.start, found.stop)
    if head.get("caches") != _sizes(contents, chosen):
        raise StateError(
            f"{file.path}: expected cells of caches {_sizes(contents, chosen)}, got "
            f"{head.get('caches')!r:.200}; load the model with their kv_dtype"
        )
    data = [(place, _checked(file, found, contents, place)) for place in chosen]
    for place, values in data:  # all are whole
        contents.cells.own(place.cache, place.start, place.stop)
        _write(contents, place, values)
    contents.last, contents.cells.graph = None, None
    contents.lineage = contents.lineage and contents.lineage.cut_cells(found.start)


def _places(
    model: "Model", contents: Contents, blocks: Iterable[int] | None, start: int, stop: int
) -> list[_Place]:
    there = places(model.engine.graph)
    wanted = sorted(there if blocks is None else set(blocks))
    unknown = [block for block in wanted if block not in there]
    if unknown or not wanted or not 0 <= start < stop <= contents.n_done:
        raise StateError(
            f"expected blocks among {sorted(there)} and cells from 0 to {contents.n_done}, in "
            f"order; got blocks {wanted} and cells {start} to {stop}"
        )
    found = []
    for block in wanted:
        cache, layer = there[block]
        if start < contents.cells.firsts[cache]:
            raise StateError(
                f"expected cells from {contents.cells.firsts[cache]} on in block {block}, got "
                f"{start}: those before fell out of the sliding window"
            )
        found += [_Place(block, cache, layer, *cells) for cells in _by_page(start, stop)]
    return found


def _by_page(start: int, stop: int) -> Iterator[tuple[int, int]]:
    while start < stop:
        end = min(stop, (start // PAGE_TOKENS + 1) * PAGE_TOKENS)
        yield start, end
        start = end


def _sizes(contents: Contents, chosen: list[_Place]) -> dict[str, list[object]]:
    """Type and sizes of each block's cells."""
    pools = contents.cells.pools
    return {
        str(p.block): [pools[p.cache].pool.kv_dtype, *pools[p.cache].pool.spec.layers[p.layer]]
        for p in chosen
    }


def _n_bytes(contents: Contents, place: _Place) -> int:
    pool = contents.cells.pools[place.cache].pool
    return (place.stop - place.start) * pool.cell_bytes(place.layer)


def _read(contents: Contents, place: _Place) -> Array:
    pool = contents.cells.pools[place.cache].pool
    out = np.empty(_n_bytes(contents, place), np.uint8)
    first = place.start % PAGE_TOKENS
    page = contents.cells.page(place.cache, place.start)
    pool.read_cells(place.layer, page, first, first + place.stop - place.start, out)
    return out.view(layout.dtype_of(pool.kv_dtype))


def _checked(file: StateFile, found: CellRange, contents: Contents, place: _Place) -> Bytes:
    values = file.read_of(found.record, place.name).reshape(-1).view(np.uint8)
    if values.nbytes != _n_bytes(contents, place):
        raise StateError(
            f"{file.path}: cells {place.name}: expected {_n_bytes(contents, place)} bytes, got "
            f"{values.nbytes}"
        )
    return values


def _write(contents: Contents, place: _Place, values: Bytes) -> None:
    pool = contents.cells.pools[place.cache].pool
    first = place.start % PAGE_TOKENS
    page = contents.cells.page(place.cache, place.start)
    pool.write_cells(place.layer, page, first, first + place.stop - place.start, values)
