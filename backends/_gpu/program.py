"""Runs of lowered graphs: recorded once for each class of row counts, submitted at every run."""

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.backends._gpu.device import Commands, Device, Memory
from jitllm.backends._gpu.dispatch import Cut, Dispatch, Form, Place
from jitllm.backends._gpu.draw import can_draw, words_of
from jitllm.backends._gpu.lower import (
    MOST_GROUPS,
    N_OUTPUTS,
    N_TOKENS,
    ROW_SEGMENTS,
    SEGMENT_WORDS,
    SEGMENTS,
    TABLES,
    Lowering,
)
from jitllm.backends._pattern import apply_pattern_tap, seen_by
from jitllm.backends.base import (
    PAGE_TOKENS,
    Batch,
    BestSteps,
    Draw,
    Floats,
    Ints,
    Program,
    Segment,
    Steps,
    Tap,
    rows_of,
)

_KEPT = 8  # recordings for different row counts


class GpuProgram(Program):
    """A lowered graph with its memory on the device.

    Parameters
    ----------
    device : Device
    lowering : Lowering
        After `lower`.
    """

    def __init__(self, device: Device, lowering: Lowering) -> None:
        self.device, self.graph, self.closed = device, lowering.graph, False
        self.max_tokens, self._lowering = lowering.max_tokens, lowering
        self._memory: dict[str, Memory] = {}
        self._recorded: dict[tuple[int, ...], list[Commands]] = {}
        self._rows = 0, 0  # classes of the run
        self._run = np.zeros(lowering.space_bytes()["run"], np.uint8)
        self._reads_caches = [n for n in self.graph.nodes if n.attrs.get("cache", -1) >= 0]
        try:
            for space, nbytes in lowering.space_bytes().items():
                self._reserve(space, nbytes, on_host=space in ("run", "tables"))
            for place, values in lowering.constants:
                self._memory["constants"].upload(values, place.start)
            for dispatch in lowering.dispatches:
                device.pipeline(dispatch.forms[0].kernel, dispatch.forms[0].constants)
        except BaseException:
            self.close()
            raise

    @property
    def n_bytes(self) -> int:
        """Bytes of the buffers."""
        return sum(memory.nbytes for memory in self._memory.values())

    def steps(self, batch: Batch, tap: Tap | None = None) -> Steps:
        """Run a batch; see `Program.steps`."""
        rows = self._begin(batch)
        yield from self._walk(batch, self._pieces(rows), tap, rows)
        output, n = self._lowering.place(self.graph.output), len(batch.output_rows)
        return self._download(output, n, self.graph.vocab_size, rows)

    def _walk(
        self, batch: Batch, pieces: Sequence[Commands], tap: Tap | None, rows: tuple[int, int]
    ) -> Iterator[str]:
        """Run pieces, show what stands between them, and add to totals."""
        counts = {"T": len(batch.tokens), "O": len(batch.output_rows)}
        for i, commands in enumerate(pieces):
            commands.run()
            if tap and i < len(self._lowering.cuts):
                yield self._lowering.cuts[i].node.name
                self._show(self._lowering.cuts[i], batch, tap, counts, rows)
        for space, place, total in self._lowering.totals:
            if counts[space]:
                found = np.empty(total.shape, total.dtype)
                self._memory_of(place).download(found, self._offset(place, rows))
                total += found

    @property
    def most_best(self) -> int:
        """Most logits of a row that `best` finds; 0 where a processor would do it, slowly."""
        if self.device.is_cpu:
            return 0
        return min(max(self._lowering.best, default=0), self.graph.vocab_size)

    def best_steps(self, batch: Batch, k: int, tap: Tap | None = None) -> BestSteps:
        """Run a batch and find the largest logits on the device; see `Program.best`."""
        size, n = self._size(k), len(batch.output_rows)
        rows = self._begin(batch)
        yield from self._walk(batch, self._pieces(rows, size), tap, rows)
        place, found = self._lowering.best[size].found, np.empty((n, 2, size), np.int32)
        self._memory[place.space].download(found, self._offset(place, rows))
        return found[:, 0, :k].copy(), found[:, 1, :k].copy().view(np.float32)

    def _size(self, k: int) -> int:
        """How many are found where k are wanted."""
        return min(size for size in self._lowering.best if size >= k)

    def can_draw(self, draw: Draw) -> bool:
        """Whether the kernel does what is wanted; see `Program.can_draw`."""
        return draw.n <= self.most_best and can_draw(draw)

    def draw(self, batch: Batch, draws: Sequence[Draw]) -> Ints:
        """Run a batch and choose tokens on the device; see `Program.draw`."""
        size = self._size(max(draw.n for draw in draws))
        best, ids = self._lowering.best[size], np.empty(len(draws), np.int32)
        rows = self._begin(batch, (best.draws, words_of(draws)))
        list(self._walk(batch, self._pieces(rows, size, is_drawn=True), None, rows))
        self._memory[best.drawn.space].download(ids, self._offset(best.drawn, rows))
        return ids

    def logits(self, row: int) -> Floats:
        """Return the logits of a row of the last run; see `Program.logits`."""
        output = self._lowering.place(self.graph.output)
        found = self._download(output, 1, self.graph.vocab_size, self._rows, first=row)
        return found.reshape(-1)

    def close(self) -> None:
        """Free the buffers."""
        self._forget()
        for memory in self._memory.values():
            memory.free()
        self._memory, self.closed = {}, True

    def _begin(self, batch: Batch, *more: tuple[Place, npt.NDArray[Any]]) -> tuple[int, int]:
        """Check and write what a run reads; returns the classes of its row counts.

        `more` are places of the run block, and what is to be there.
        """
        n_tokens, n_outputs = len(batch.tokens), len(batch.output_rows)
        if not 1 <= n_tokens <= self.max_tokens:
            raise ValueError(f"expected 1 to {self.max_tokens} tokens, got {n_tokens}")
        self._check_ids(batch)
        few, most = self._lowering.max_outputs, self.max_tokens
        self._rows = _class(n_tokens, most), _class(n_outputs, few if n_outputs <= few else most)
        self._set_inputs(batch, more)
        return self._rows

    # --- memory ---

    def _reserve(self, space: str, nbytes: int, *, on_host: bool = False) -> bool:
        """Make a space have so many bytes; True if it moved, which makes recordings invalid."""
        if space in self._memory and self._memory[space].nbytes >= nbytes:
            return False
        if space in self._memory:
            self._memory.pop(space).free()
        self._memory[space] = self.device.allocate(nbytes, on_host=on_host)
        return True

    def _offset(self, place: Place, rows: tuple[int, int]) -> int:
        """Bytes from the start of a place's space."""
        if place.space == "rows":
            return self._lowering.run_bytes + place.start * rows[0] + place.shift
        by_row = {"T": self.max_tokens, "O": rows[1], "best": rows[1]}.get(place.space, 1)
        return place.start * by_row + place.shift

    def _memory_of(self, place: Place) -> Memory:
        return self._memory["run" if place.space == "rows" else place.space]

    def _address(self, place: Place | None, rows: tuple[int, int]) -> int:
        if place is None:
            return 0
        base = self._memory_of(place).address if place.space else 0
        return base + self._offset(place, rows)

    # --- recordings ---

    def _pieces(
        self, rows: tuple[int, int], n_best: int = 0, *, is_drawn: bool = False
    ) -> list[Commands]:
        """Return the recorded pieces of a run, which end at the cuts.

        The last one finds the `n_best` largest logits, and draws tokens from them if `is_drawn`.
        """
        for space in ("O", "best") if n_best else ("O",):
            if self._reserve(space, self._lowering.arenas[space].size * rows[1]):
                self._forget()
        key = *rows, n_best, is_drawn
        if key not in self._recorded:
            if len(self._recorded) == _KEPT:
                _free(self._recorded.pop(next(iter(self._recorded))))
            more = self._lowering.best[n_best].dispatches if n_best else ()
            self._recorded[key] = self._record(rows, more if is_drawn else more[:-1])
        return self._recorded[key]

    def _record(self, rows: tuple[int, int], more: Sequence[Dispatch]) -> list[Commands]:
        dispatches, pieces, start = [*self._lowering.dispatches, *more], list[Commands](), 0
        try:
            for stop in [*(cut.stop for cut in self._lowering.cuts), len(dispatches)]:
                pieces.append(self.device.commands())
                self._fill(pieces[-1], dispatches[start:stop], rows)
                start = stop
        except BaseException:
            _free(pieces)
            raise
        return pieces

    def _fill(
        self, commands: Commands, dispatches: Sequence[Dispatch], rows: tuple[int, int]
    ) -> None:
        """Record dispatches, with barriers where one must wait."""
        waits = False
        for dispatch in dispatches:
            n_rows = dict(zip("TO", rows, strict=True))[dispatch.rows] * dispatch.fan
            waits, form = waits or dispatch.barrier, dispatch.form(n_rows)
            if form:
                if waits:
                    commands.barrier()
                waits = False
                self._add(commands, form, n_rows, rows)
        commands.end()

    def _add(self, commands: Commands, form: Form, n_rows: int, rows: tuple[int, int]) -> None:
        x = min(form.groups, MOST_GROUPS)
        addresses = [self._address(place, rows) for place in form.addresses]
        kinds = "".join("f" if isinstance(word, float) else "I" for word in form.words)
        arguments = struct.pack(f"<{len(addresses)}Q{kinds}", *addresses, *form.words)
        grid = x, -(-n_rows // form.tile) + form.more, -(-form.groups // x)
        commands.dispatch(self.device.pipeline(form.kernel, form.constants), arguments, grid)

    def _forget(self) -> None:
        for pieces in self._recorded.values():
            _free(pieces)
        self._recorded.clear()

    # --- inputs ---

    def _check_ids(self, batch: Batch) -> None:
        tables = [n.weights[0] for n in self.graph.nodes if n.op == "embed"]
        count = min((self._lowering.weights[w].n for w in tables), default=self.graph.vocab_size)
        if batch.tokens.min() < 0 or batch.tokens.max() >= count:
            raise ValueError(f"token ids must be from 0 to {count - 1}")

    def _set_inputs(self, batch: Batch, more: Sequence[tuple[Place, npt.NDArray[Any]]]) -> None:
        """Write the run block and the page tables."""
        lowering, n = self._lowering, len(batch.tokens)
        self._set_tables(batch)
        self._words(N_TOKENS, np.uint32)[:2] = n, len(batch.output_rows)
        assert N_OUTPUTS == N_TOKENS + 4
        self._words(TABLES, np.uint64)[0] = self._memory["tables"].address
        for start, place in ((SEGMENTS, lowering.segments), (ROW_SEGMENTS, lowering.row_segments)):
            self._words(start, np.uint64)[0] = self._address(place, self._rows)
        for place, values in (
            (lowering.tokens, batch.tokens),
            (lowering.positions, batch.positions),
            (lowering.output_rows, batch.output_rows),
        ):
            self._put(place, np.asarray(values, np.int32))
        for place, values in more:
            self._put(place, values)
        self._set_segments(batch.segments)
        for (rows, fan), place in lowering.counts.items():
            count = n if rows == "T" else len(batch.output_rows)
            self._put(place, np.array([count * fan], np.uint32))
        self._set_rows(batch)
        used = lowering.run_bytes + lowering.row_bytes * self._rows[0]
        self._memory["run"].upload(self._run[:used])

    def _set_segments(self, segments: Sequence[Segment]) -> None:
        lowering, classes = self._lowering, self._rows
        words = self._words(self._offset(lowering.segments, classes), np.int32)
        rows = self._words(self._offset(lowering.row_segments, classes), np.int32)
        for i, s in enumerate(segments):
            own = s.row, s.rows, s.position, s.n_cross, s.state_in, s.state_out, 0, 0
            words[i * SEGMENT_WORDS : (i + 1) * SEGMENT_WORDS] = own
            rows[s.row : s.row + s.rows] = i

    def _set_rows(self, batch: Batch) -> None:
        """What the host computes of positions: angles of rope, factors; and rows given."""
        lowering = self._lowering
        for place, frequencies in lowering.angles.values():
            angles = batch.positions.astype(np.float32)[:, None] * frequencies.astype(np.float32)
            exact = angles.astype(np.float64)
            self._put(place, np.stack([np.cos(exact), np.sin(exact)], -1).astype(np.float32))
        for place, attrs in lowering.factors:
            steps = (batch.positions + attrs["offset"]) // attrs["length"]
            factors = 1 + attrs["slope"] * np.log(steps + 1.0)
            self._put(place, factors.astype(np.float32))
        for place, array in lowering.copies:
            self._put(place, np.asarray(array, np.float32))
        for place, width in lowering.input_rows:
            self._put(place, np.asarray(rows_of(batch, width), np.float32))

    def _set_tables(self, batch: Batch) -> None:
        """Write page numbers, after offset and length of each table; checks them."""
        n_caches = len(self._lowering.pools)
        heads, pages = list[int](), list[npt.NDArray[np.int32]]()
        at = 2 * n_caches * len(batch.segments)
        for segment in batch.segments:
            for node in self._reads_caches:
                self._check_table(node, segment)
            cells = max(segment.position + segment.rows, segment.n_cross)
            for table in segment.tables[:n_caches]:
                pages.append(np.asarray(table[: -(-cells // PAGE_TOKENS)], np.int32))
                heads += [at, len(pages[-1])]
                at += len(pages[-1])
        if not n_caches:
            return
        words = np.concatenate([np.array(heads, np.int32), *pages])
        self._reserve("tables", words.nbytes, on_host=True)
        self._memory["tables"].upload(words)

    def _check_table(self, node: Any, segment: Segment) -> None:
        cache = node.attrs["cache"]
        pool, table = self._lowering.pools[cache], segment.tables[cache]
        first, end = segment.position, segment.position + segment.rows
        if node.op == "attention":
            first, end = seen_by(node, segment)
        if end - first > len(table) * PAGE_TOKENS or not all(0 <= p < pool.n_pages for p in table):
            raise ValueError(
                f"cache {cache}: a table of {len(table)} pages (of {pool.n_pages}) cannot hold "
                f"positions {first} to {end - 1}"
            )

    def _words(self, start: int, dtype: Any) -> npt.NDArray[Any]:
        return self._run[start : start + (len(self._run) - start) // 8 * 8].view(dtype)

    def _put(self, place: Place, values: npt.NDArray[Any]) -> None:
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        start = self._offset(place, self._rows)
        self._run[start : start + len(data)] = data

    # --- values ---

    def _download(
        self, place: Place, n: int, width: int, rows: tuple[int, int], first: int = 0
    ) -> Floats:
        """Return n rows of a value, from the first on."""
        whole = np.empty(n * place.stride, np.float32)
        length = max(n * place.stride - place.shift // 4, 0)
        start = self._offset(place, rows) + 4 * place.stride * first
        self._memory_of(place).download(whole[:length], start)
        return np.ascontiguousarray(whole.reshape(n, place.stride)[:, :width])

    def _upload(self, place: Place, values: Floats, rows: tuple[int, int]) -> None:
        start = self._offset(place, rows)
        for i, row in enumerate(values):
            self._memory_of(place).upload(row, start + 4 * place.stride * i)

    def _show(
        self, cut: Cut, batch: Batch, tap: Tap, counts: dict[str, int], rows: tuple[int, int]
    ) -> None:
        """Give a value to the tap, and write back what it made of it."""
        value = cut.node.outputs[0]
        n = counts[value.rows]
        if cut.node.op == "from_host":
            whole = np.zeros((n, cut.place.stride), np.float32)
            tap(value.name, whole[:, : value.width])
            self._memory_of(cut.place).upload(whole, self._offset(cut.place, rows))
            return
        shown = self._download(cut.place, n, value.width, rows)
        before = shown.copy()
        if cut.inputs:
            inputs = [
                self._download(place, n, source.width, rows)
                for place, source in zip(cut.inputs, cut.node.inputs, strict=True)
            ]
            sinks = self._lowering.vectors.get(cut.node.weights[0])
            apply_pattern_tap(cut.node, inputs, shown, batch, self._lowering.pools, sinks, tap)
        else:
            tap(value.name, shown)
        if not np.array_equal(before.view(np.int32), shown.view(np.int32)):
            self._upload(cut.place, shown, rows)


def _class(rows: int, most: int) -> int:
    """Row count that a recording is made for: a power of two, or the most."""
    return min(1 << (rows - 1).bit_length(), most) if rows else 0


def _free(pieces: Sequence[Commands]) -> None:
    for commands in pieces:
        commands.free()
