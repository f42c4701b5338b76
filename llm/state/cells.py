"""What the caches and states of a model remember of one sequence: pages shared until written to."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from jitllm.backends.ir import Graph
from jitllm.llm.state.column import Column
from jitllm.llm.state.pages import PagePool
from jitllm.llm.state.slots import SlotPool, StateHistory

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


class Cells:
    """What the caches and states of a model remember of one sequence.

    Parameters
    ----------
    pools : sequence of PagePool
    slots : SlotPool, optional
        Of the model's states, if it has any.
    cross : Cells, optional
        Those of the text that the model's encoder reads; their caches come first.
    graph : Graph, optional

    Attributes
    ----------
    n_cross : int
        Tokens of that text.
    graph : Graph or None
        The one that computed all of it; None where a hook, an edit or a removal may have changed
        something: then it is not what the tokens alone would give.
    """

    def __init__(
        self,
        pools: Sequence[PagePool],
        slots: SlotPool | None = None,
        cross: "Cells | None" = None,
        graph: Graph | None = None,
    ) -> None:
        self._columns = [Column(pool) for pool in pools]
        self._states = StateHistory(slots) if slots else None
        self._cross, self.n_cross, self.graph = cross, 0, graph

    @property
    def tables(self) -> list[Ints]:
        """Page table of each cache, int32, as long as was prepared; without a page: 0."""
        own = [column.table for column in self._columns]
        return self._cross.tables + own if self._cross else own

    @property
    def nbytes(self) -> int:
        """Bytes of the pages held; a page that several sequences share counts in each."""
        pages = sum(len(column.held()) * column.pool.pool.page_bytes for column in self._columns)
        pages += self._cross.nbytes if self._cross else 0
        return pages + (self._states.nbytes if self._states else 0)

    def held(self) -> dict[tuple[int, int], int]:
        """Return the bytes of every page and slot held, by pool and number."""
        found = {} if self._cross is None else self._cross.held()
        for column in self._columns:
            size = column.pool.pool.page_bytes
            found |= {(id(column.pool), int(page)): size for page in column.held()}
        return found | (self._states.held() if self._states else {})

    def page_holders(self) -> list[list[int]]:
        """Return how many hold each page of each cache, block by block; 0 where none is held."""
        return [
            [
                column.pool.n_holders(int(page)) if page >= 0 else 0
                for page in column.pages[: column.end]
            ]
            for column in self._columns
        ]

    def prepare_cross(self, n_tokens: int) -> None:
        """Make cells writable for another text of the encoder, of `n_tokens`.

        Raises
        ------
        BackendError
            If no page is free.
        """
        assert self._cross is not None
        self.n_cross = 0
        self._cross.truncate(0)
        self._cross.prepare(0, n_tokens)

    def prepare(self, start: int, stop: int) -> None:
        """Make the cells start to stop - 1 writable: take pages, copy those that are shared.

        Raises
        ------
        BackendError
            If there are too few pages, which is found out before any is taken, or no slot.
        """
        for column in self._columns:
            column.need(start, stop)
        if self._states:
            self._states.prepare()
        for column in self._columns:
            column.prepare(start, stop)

    @property
    def state_slots(self) -> tuple[int, int]:
        """Slot of the states behind the last token (-1: none), and the one to write next."""
        return self._states.slots if self._states else (-1, -1)

    def commit(self, n_tokens: int) -> None:
        """Note that a run has ended: the states written are those behind `n_tokens` tokens."""
        if self._states:
            self._states.commit(n_tokens)

    @property
    def firsts(self) -> list[int]:
        """The first cell that is still there, of each cache."""
        return [column.begin for column in self._columns]

    @property
    def pools(self) -> list[PagePool]:
        """The pool of each cache."""
        return [column.pool for column in self._columns]

    def read(self, cache: int, start: int, stop: int, out: Bytes | None = None) -> Bytes:
        """Return the cells start to stop - 1 of all layers of a cache; they lie in one page.

        One layer after the other, each as `Pool.read_cells` gives it; in `out` if that is given.
        """
        column, n_cells = self._columns[cache], stop - start
        pool, place = column.pool.pool, column.place(start, stop)
        sizes = [n_cells * pool.cell_bytes(i) for i in range(len(pool.spec.layers))]
        out = np.empty(sum(sizes), np.uint8) if out is None else out
        for i, part in enumerate(np.split(out, np.cumsum(sizes)[:-1])):
            pool.read_cells(i, *place, part)
        return out

    def write(self, cache: int, start: int, stop: int, data: Bytes) -> None:
        """Overwrite cells that `prepare` made writable with what `read` gave."""
        column, n_cells = self._columns[cache], stop - start
        pool, place = column.pool.pool, column.place(start, stop)
        sizes = [n_cells * pool.cell_bytes(i) for i in range(len(pool.spec.layers))]
        for i, part in enumerate(np.split(data, np.cumsum(sizes)[:-1])):
            pool.write_cells(i, *place, part)

    def page(self, cache: int, position: int) -> int:
        """Return the page that the cell at `position` lies in."""
        return self._columns[cache].place(position, position + 1)[0]

    def own(self, cache: int, start: int, stop: int) -> None:
        """Make written cells of a cache writable again, for this sequence alone."""
        self._columns[cache].own(start, stop)

    def begin(self, firsts: Sequence[int], n_tokens: int) -> None:
        """Hold writable pages for the cells from `firsts` of each cache up to `n_tokens`."""
        for column, first in zip(self._columns, firsts, strict=True):
            column.begin_at(first, n_tokens)

    def begin_windows(self, firsts: Sequence[int], n_tokens: int) -> None:
        """Drop states, windows, and all cells from `n_tokens` on; hold empty windows instead.

        Parameters
        ----------
        firsts : sequence of int
            The first cell to hold of each cache with a window.
        n_tokens : int
        """
        for column, first in zip(self._columns, firsts, strict=True):
            column.cut(0 if column.pool.window else n_tokens)
            if column.pool.window:
                column.begin_at(first, n_tokens)
        if self._states:
            self._states.release()

    @property
    def state_sizes(self) -> list[int]:
        """Numbers of each recurrent or convolution state."""
        return list(self._states.sizes) if self._states else []

    @property
    def state_lengths(self) -> list[int]:
        """Numbers of tokens behind which states are kept, ascending."""
        return self._states.lengths if self._states else []

    def read_states(self, n_tokens: int) -> Floats:
        """Return the states kept behind `n_tokens` tokens, one after the other."""
        assert self._states is not None
        return self._states.read(n_tokens)

    def put_states(self, n_tokens: int, values: Floats) -> None:
        """Keep these as the states behind `n_tokens` tokens, more than those of any kept before."""
        assert self._states is not None
        self._states.put(n_tokens, values)

    def forget(self, n_tokens: int) -> None:
        """Drop what fell out of the sliding windows of a sequence of `n_tokens`."""
        for column in self._columns:
            column.forget(n_tokens)

    def truncate(self, n_tokens: int) -> int:
        """Drop the cells from `n_tokens` on, and more where something needed is not there any more.

        Returns
        -------
        int
            How many tokens are still remembered; the others must be computed again. Fewer than
            `n_tokens` where a sliding window lost cells that the shorter sequence needs, or where
            no states were kept of just this length.
        """
        n_tokens = self.reach(n_tokens)
        for column in self._columns:
            column.cut(n_tokens)
        if self._states:
            self._states.cut(n_tokens)
        return n_tokens

    def reach(self, n_tokens: int) -> int:
        """Return how many tokens `truncate` would leave remembered."""
        if self._states:
            n_tokens = self._states.nearest(n_tokens)
        return n_tokens if all(column.can_cut(n_tokens) for column in self._columns) else 0

    def can_remove(self, start: int, stop: int, n_tokens: int) -> bool:
        """Return whether no window lost cells that are seen when start to stop - 1 are gone."""
        places = (start, stop, n_tokens)
        return all(column.first_without(*places) is not None for column in self._columns)

    def begin_removal(self, start: int, stop: int, n_tokens: int) -> None:
        """Take the pages that `remove` needs; nothing that is remembered changes.

        Raises
        ------
        BackendError
            If no page is free.
        """
        for column in self._columns:
            column.begin_gap(start, stop, n_tokens)

    def remove(
        self, start: int, stop: int, n_tokens: int, turn: Callable[[int, int, Floats], Floats]
    ) -> None:
        """Drop the cells start to stop - 1 of `n_tokens`, and move those behind them up.

        Parameters
        ----------
        start, stop, n_tokens : int
            As given to `begin_removal`.
        turn : callable
            Gets a cache, a layer and keys [n, G*dk], and returns them for their new places.
        """
        self.graph = None
        n_before = len(self._cross._columns) if self._cross else 0
        for cache, column in enumerate(self._columns, n_before):
            column.close_gap(start, stop, n_tokens, partial(turn, cache))

    def fork(self) -> "Cells":
        """Return cells that share all pages with these."""
        twin = Cells((), graph=self.graph)
        twin._columns = [column.fork() for column in self._columns]
        twin._states = self._states.fork() if self._states else None
        twin._cross, twin.n_cross = self._cross.fork() if self._cross else None, self.n_cross
        return twin

    def release(self) -> None:
        """Drop all pages."""
        for column in self._columns:
            column.cut(0)
        if self._states:
            self._states.release()
        if self._cross:
            self._cross.release()
