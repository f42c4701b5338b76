"""Runs a model: caches, compiled programs, and tokens of one sequence after another."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from jitllm.backends.base import Batch, Program, Segment, Tap, most_outputs
from jitllm.backends.ir import Graph
from jitllm.kernels.cache_types import spelled
from jitllm.llm.errors import BackendError, ClosedError, HookError
from jitllm.llm.failures import device_errors
from jitllm.llm.models.loading import OpenModel
from jitllm.llm.state.batches import Piece, batch_of
from jitllm.llm.state.budget import sizes_within
from jitllm.llm.state.cells import Cells
from jitllm.llm.state.logits import LastRows, Logits, Need
from jitllm.llm.state.pages import PagePool
from jitllm.llm.state.reserve import Reserve, remembers, run_rows
from jitllm.llm.state.slots import SlotPool

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

Cancel = Callable[[], bool]

_TAPPED_PROGRAMS = 2  # each has buffers of its own


class Cancelled(Exception):
    """Raised between two pieces when the caller's `cancelled` says so."""


class Hooks(Protocol):
    """What wants to see values of a run."""

    @property
    def taps(self) -> frozenset[str]:
        """Names that backends know."""

    def __call__(self, tap: str, values: Floats) -> None:
        """Look at the values of a tap, or change them in place."""


class Draft(Protocol):
    """What runs beside a model on its backend."""

    def free(self) -> None:
        """Free what is its own; more than once is allowed."""


class Engine:
    """The caches and programs of one model on one device.

    Parameters
    ----------
    model : OpenModel
        The engine closes its backend.
    kv_dtype : str
        Types of cached keys and values; see `jitllm.kernels.cache_types.spelled`.
    cache_bytes : int, optional
        Most bytes of caches and states; without, a part of the machine's memory.

    Attributes
    ----------
    max_tokens : int
        Most rows of one run.
    max_outputs : int
        Most rows of one run whose logits are wanted, of a text that can be continued.
    max_source : int
        Most tokens of a text that the graph's encoder reads; 0 without one.
    drafts : WeakSet of Draft
        Those that are closed before the engine.

    Raises
    ------
    ValueError
        If `kv_dtype` is none of them, or does not fit the model's heads.
    BackendError
        If the device cannot run the model, or `cache_bytes` are too few for a sequence.
    """

    def __init__(
        self, model: OpenModel, kv_dtype: str = "f16", cache_bytes: int | None = None
    ) -> None:
        kv_dtype = spelled(kv_dtype)
        self.graph, self.backend, self.n_ctx = model.graph, model.backend, model.n_ctx
        self.own_graph = model.graph  # without adapters
        self.remembers = remembers(self.graph)
        reserve = Reserve.of(self.graph, self.n_ctx, kv_dtype, self.backend.holds_pools)
        self.max_tokens, self.max_source = reserve.max_tokens, reserve.max_source
        self.max_outputs = most_outputs(self.graph, self.max_tokens)
        self.closed = False
        self.hooks: list[Hooks] = []
        self.drafts: WeakSet[Draft] = WeakSet()
        sizes = sizes_within(cache_bytes, self.graph, reserve, kv_dtype, self.n_ctx)
        states = self.graph.states
        with device_errors(of_memory=True):
            self.pools = [
                PagePool(self.backend.new_pool(spec, n_pages, kv_dtype))
                for spec, n_pages in zip(self.graph.caches, sizes.pages, strict=True)
            ]
            self.slots = SlotPool(self.backend.new_states(states, sizes.slots)) if states else None
        self._lock = threading.Lock()
        self._owner: int | None = None  # the thread inside a run
        self._last_rows = LastRows(self.turn)
        self._program = self._compile(frozenset(), self.graph)
        encoder = self.graph.encoder
        self._encoder = self._compile(frozenset(), encoder) if encoder else None
        self._tapped: OrderedDict[tuple[bool, frozenset[str]], Program] = OrderedDict()

    def new_cells(self) -> Cells:
        """Return the cells of a new sequence, without pages."""
        self.check_open()
        cross = [pool for pool in self.pools if pool.cross]
        own = self.pools[len(cross) :]
        return Cells(own, self.slots, Cells(cross) if cross else None, self.graph)

    def run(
        self,
        cells: Cells,
        tokens: Sequence[int],
        position: int,
        rows: npt.NDArray[np.intp],
        hooks: Sequence[Hooks] = (),
    ) -> Iterator[tuple[int, Floats]]:
        """Run tokens in pieces of at most `max_tokens`; an item per piece.

        Parameters
        ----------
        cells : Cells
            Of the sequence; cells before `position` are written.
        tokens : sequence of int
        position : int
            Of the first token.
        rows : ints, ascending
            Of `tokens`: those whose logits are wanted.
        hooks : sequence of Hooks
            Called after those of the engine.

        Yields
        ------
        n_done : int
            Tokens whose cells are now written.
        logits : float32 [rows of this piece, V]
        """
        self.check_whole(position, len(tokens))
        start = 0
        while start < len(tokens):
            stop = self._piece_end(start, len(tokens), rows)
            wanted = rows[(rows >= start) & (rows < stop)] - start
            ids = np.asarray(tokens[start:stop], np.int32)
            (logits,) = self.run_pieces([Piece(cells, ids, position + start, wanted)], hooks)
            yield stop, logits
            cells.forget(position + stop)
            start = stop

    def run_texts(
        self,
        texts: Sequence[Sequence[int]],
        rows: Sequence[npt.NDArray[np.intp]],
        hooks: Sequence[Hooks] = (),
    ) -> list[Floats]:
        """Run whole texts side by side, for a model that remembers nothing.

        Parameters
        ----------
        texts : sequence of sequences of int
            Tokens; of all texts together at most `max_tokens`.
        rows : sequence of ints, ascending
            Of each text: those that are wanted.
        hooks : sequence of Hooks
            Called after those of the engine, with the rows of all texts.

        Returns
        -------
        list of float32 [rows, n]
            For each text the last value of the graph.
        """
        pieces = [
            Piece(None, np.asarray(ids, np.int32), 0, wanted)
            for ids, wanted in zip(texts, rows, strict=True)
        ]
        return self.run_pieces(pieces, hooks)

    def run_pieces(self, pieces: Sequence[Piece], hooks: Sequence[Hooks] = ()) -> list[Floats]:
        """Run pieces of several texts at once.

        Parameters
        ----------
        pieces : sequence of Piece
            Together at most `max_tokens` tokens, each of another text.
        hooks : sequence of Hooks
            Called after those of the engine, with the rows of all pieces.

        Returns
        -------
        list of float32 [rows, n]
            For each piece logits, or what else the graph ends with.
        """
        hooks = [*self.hooks, *hooks]
        with self.turn(), self._writing(pieces, is_changed=bool(hooks)) as batch:
            values = self._run_batch(batch, hooks)
        return np.split(values, np.cumsum([len(piece.rows) for piece in pieces])[:-1])

    def run_last(self, pieces: Sequence[Piece], needs: Sequence[Need]) -> Sequence[Logits]:
        """Run pieces of several texts at once; returns the logits of each row that is wanted.

        Parameters
        ----------
        pieces : sequence of Piece
            As for `run_pieces`.
        needs : sequence of Need
            One for each such row.
        """
        with self.turn(), self._writing(pieces, is_changed=bool(self.hooks)) as batch:
            program, n_vocab = self._program, self.graph.vocab_size
            if not self.hooks and (rows := self._last_rows.run(program, batch, needs, n_vocab)):
                return rows
            return [Logits(row) for row in self._run_batch(batch, self.hooks)]

    def encode(
        self,
        cells: Cells,
        tokens: Sequence[int],
        rows: npt.NDArray[np.intp],
        hooks: Sequence[Hooks] = (),
    ) -> Floats:
        """Run the graph's encoder on a text, and leave what the decoder sees of it in `cells`.

        Parameters
        ----------
        cells : Cells
            Of the sequence.
        tokens : sequence of int
            At most `max_source`.
        rows : ints, ascending
            Of `tokens`: those whose hidden states are wanted.
        hooks : sequence of Hooks
            Called after those of the engine.

        Returns
        -------
        float32 [rows, n]
        """
        ids = np.asarray(tokens, np.int32)
        positions = np.arange(len(ids), dtype=np.int32)
        with self.turn():
            if hooks or self.hooks:
                cells.graph = None
            cells.prepare_cross(len(ids))
            segment = Segment(0, len(ids), 0, cells.tables)
            batch = Batch(ids, positions, rows.astype(np.int32), [segment])
            states = self._run_batch(batch, [*self.hooks, *hooks], in_encoder=True)
            cells.n_cross = len(ids)
            return states

    def use(self, graph: Graph) -> None:
        """Run another graph from now on; sequences keep what is in their caches.

        Parameters
        ----------
        graph : Graph
            With the caches, states and output of the one before; the backend has its weights.

        Raises
        ------
        ValueError
            If it has others.
        HookError
            If a hook calls this.
        BackendError
            If the device cannot run it; the one before stays.
        """
        now = self.graph
        if (graph.caches, graph.states, graph.vocab_size) != (
            now.caches, now.states, now.vocab_size,
        ):  # fmt: skip
            raise ValueError("expected a graph with the caches, states and output of this model")
        with self.turn():
            program = self._compile(frozenset(), graph)
            try:
                encoder = self._compile(frozenset(), graph.encoder) if graph.encoder else None
            except BaseException:
                program.close()
                raise
            self._last_rows.fetch()
            for old in (*self._tapped.values(), self._program, self._encoder):
                if old:
                    old.close()
            self._tapped.clear()
            self.graph, self._program, self._encoder = graph, program, encoder

    def memory(self) -> dict[str, int]:
        """Return bytes by purpose; "caches_used" is the part of "caches" that sequences hold."""
        self.check_open()
        used = sum(pool.used_pages * pool.pool.page_bytes for pool in self.pools)
        used += self.slots.used_bytes if self.slots else 0
        return {**self.backend.memory(), "caches_used": used}

    def check_open(self) -> None:
        """Raise ClosedError if the engine was closed."""
        if self.closed:
            raise ClosedError("the model was closed; load it again")

    def close(self) -> None:
        """Free programs, caches and weights, once the run under way has ended."""
        if self._owner == threading.get_ident():
            raise HookError("a hook cannot close the model whose run it is part of")
        with self._lock:
            if self.closed:
                return
            self.closed = True
            with ExitStack() as rest:  # what comes last is closed first; an error stops nothing
                rest.callback(self.backend.close)
                for pool in self.pools:
                    rest.callback(pool.pool.close)
                if self.slots:
                    rest.callback(self.slots.pool.close)
                for program in (*self._tapped.values(), self._program, self._encoder):
                    if program:
                        rest.callback(program.close)
                for draft in self.drafts:
                    rest.callback(draft.free)
                # thousands of objects, and a closed model may be kept for long
                self._tapped.clear()
                del self._program, self._encoder

    def check_whole(self, position: int, n_tokens: int) -> None:
        """Raise BackendError if tokens go on with a text that the model must see as a whole."""
        if not self.remembers and (position or n_tokens > self.max_tokens):
            raise BackendError(
                f"this model sees a text as a whole and remembers nothing: expected all its tokens "
                f"at once, at most {self.max_tokens}, got {n_tokens} behind {position}; give the "
                "whole text to `Model.forward`"
            )

    def _piece_end(self, start: int, n_tokens: int, rows: npt.NDArray[np.intp]) -> int:
        stop = min(start + self.max_tokens, n_tokens)
        if not self.remembers:
            return stop
        inside = rows[(rows >= start) & (rows < stop)]
        return stop if len(inside) <= self.max_outputs else int(inside[self.max_outputs])

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn of this thread to run the model.

        Raises
        ------
        HookError
            If it has the turn already: hooks cannot run the model that calls them.
        ClosedError
            If the engine was closed.
        """
        if self._owner == threading.get_ident():
            raise HookError("a hook cannot run the model that it is called by; do so after the run")
        with self._lock:
            self.check_open()
            self._owner = threading.get_ident()
            try:
                yield
            finally:
                self._owner = None

    @contextmanager
    def _writing(self, pieces: Sequence[Piece], *, is_changed: bool) -> Iterator[Batch]:
        """Prepare the cells that a batch writes; after its run they are written.

        With `is_changed` they are not what the graph alone makes.
        """
        for piece in pieces:
            if piece.cells:
                piece.cells.prepare(piece.position, piece.stop)
                if is_changed or piece.cells.graph is not self.graph:
                    piece.cells.graph = None
        yield batch_of(pieces)
        for piece in pieces:
            if piece.cells:
                piece.cells.commit(piece.stop)

    def _run_batch(self, batch: Batch, hooks: list[Hooks], *, in_encoder: bool = False) -> Floats:
        taps = frozenset[str]().union(*(hook.taps for hook in hooks))
        program = self._program_for(taps, in_encoder=in_encoder)
        self._last_rows.fetch()
        with device_errors():
            return program.run(batch, _tap(hooks) if hooks else None)

    def _program_for(self, taps: frozenset[str], *, in_encoder: bool) -> Program:
        encoder = self.graph.encoder
        if encoder and taps:  # each of the two graphs has its own
            inside = encoder.taps()
            taps = taps & inside if in_encoder else taps - inside
        untapped = self._encoder if in_encoder else self._program
        if not taps and untapped:
            return untapped
        key = in_encoder, taps
        if key not in self._tapped:
            if len(self._tapped) >= _TAPPED_PROGRAMS:
                self._tapped.popitem(last=False)[1].close()
            graph = encoder if encoder and in_encoder else self.graph
            self._tapped[key] = self._compile(taps, graph)
        self._tapped.move_to_end(key)
        return self._tapped[key]

    def _compile(self, taps: frozenset[str], graph: Graph) -> Program:
        pools, max_tokens = [pool.pool for pool in self.pools], run_rows(graph, self.n_ctx)
        with device_errors(of_memory=True):
            return self.backend.compile(graph, pools, max_tokens=max_tokens, taps=taps)


def _tap(hooks: Sequence[Hooks]) -> Tap:
    def call(name: str, values: Floats) -> None:
        for hook in hooks:
            if name in hook.taps:
                hook(name, values)

    return call
