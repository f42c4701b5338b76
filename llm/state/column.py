"""One sequence's pages in one cache: taken, shared until written to, dropped, moved up."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from jitllm.backends.base import PAGE_TOKENS
from jitllm.llm.state.pages import SLACK_PAGES, PagePool, pages_of

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Turn = Callable[[int, Floats], Floats]

_NONE = -1
_FIRST_BLOCKS = 8
_MOVED_BLOCKS = 32  # at a time


class Column:
    """One sequence's pages in one cache; its tables grow with it.

    Parameters
    ----------
    pool : PagePool
    """

    def __init__(self, pool: PagePool) -> None:
        self.pool = pool
        self.pages: Ints = np.full(_FIRST_BLOCKS, _NONE, np.int32)
        self.table: Ints = np.zeros(_FIRST_BLOCKS, np.int32)  # what backends see: no -1
        self.first = 0  # blocks before this one fell out of the window
        self.end = 0  # blocks from this one on were never written
        self._begin = 0  # cells before this one were never there

    @property
    def begin(self) -> int:
        """The first cell that is there."""
        return max(self.first * PAGE_TOKENS, self._begin)

    def begin_at(self, start: int, stop: int) -> None:
        """Hold writable pages for the cells start to stop - 1, and say that there are no others."""
        self.first, self._begin = start // PAGE_TOKENS, start
        self.prepare(start, stop)
        missing = min(start, stop) - self.first * PAGE_TOKENS
        if missing > 0:  # kernels read whole pages: what no query sees must be numbers
            pool, page = self.pool.pool, int(self.pages[self.first])
            for layer in range(len(pool.spec.layers)):
                zeros = np.zeros(missing * pool.cell_bytes(layer), np.uint8)
                pool.write_cells(layer, page, 0, missing, zeros)

    def need(self, start: int, stop: int) -> None:
        """Raise BackendError if there are too few pages to `prepare` these cells."""
        blocks = range(start // PAGE_TOKENS, pages_of(stop))
        there = self.pages[blocks.start : blocks.stop]
        own = sum(page != _NONE and not self.pool.is_shared(int(page)) for page in there)
        self.pool.need(len(blocks) - own)

    def prepare(self, start: int, stop: int) -> None:
        """Make the cells start to stop - 1 writable for this sequence alone."""
        self._grow(pages_of(stop))
        for block in range(start // PAGE_TOKENS, pages_of(stop)):
            page = int(self.pages[block])
            if page == _NONE:
                self._set(block, self.pool.take())
            elif self.pool.is_shared(page):
                self._part(block, page, copy=block * PAGE_TOKENS < start)
            self.end = max(self.end, block + 1)  # at once: the next page may not be free

    def own(self, start: int, stop: int) -> None:
        """Copy the pages of written cells that others hold too."""
        for block in range(start // PAGE_TOKENS, pages_of(stop)):
            page = int(self.pages[block])
            if self.pool.is_shared(page):
                self._part(block, page, copy=True)

    def first_without(self, start: int, stop: int, n_tokens: int) -> int | None:
        """Return the first cell there is when the cells start to stop - 1 of `n_tokens` are gone.

        None if a query behind the others would see cells that fell out of the window before.
        """
        gap, held = stop - start, self.begin
        if held > start:
            held = pages_of(max(held, stop) - gap) * PAGE_TOKENS
        return held if held <= max(0, n_tokens - gap - self.pool.window) else None

    def begin_gap(self, start: int, stop: int, n_tokens: int) -> None:
        """Make the cells writable that `close_gap` writes; what is in them stays."""
        first = (self.first_without(start, stop, n_tokens) or 0) // PAGE_TOKENS
        blocks = range(max(first, start // PAGE_TOKENS), pages_of(n_tokens - (stop - start)))
        try:
            for block in blocks:
                page = int(self.pages[block])
                if page == _NONE:
                    self._set(block, self.pool.take())
                elif self.pool.is_shared(page):
                    self._part(block, page, copy=True)
        except BaseException:
            self._drop(first, self.first)
            raise

    def close_gap(self, start: int, stop: int, n_tokens: int, turn: Turn) -> None:
        """Drop the cells start to stop - 1, and move those behind them up.

        Parameters
        ----------
        start, stop : int
        n_tokens : int
            Cells that are written.
        turn : callable
            Gets a layer and its keys [n, G*dk], and returns them for their new places.
        """
        gap, first = stop - start, self.first_without(start, stop, n_tokens)
        assert first is not None
        step, begin, end = _MOVED_BLOCKS * PAGE_TOKENS, max(first, start), n_tokens - gap
        for layer in range(len(self.pool.pool.spec.layers)):
            for near in range(begin // PAGE_TOKENS * PAGE_TOKENS, end, step):
                place, last = max(begin, near), min(end, near + step)
                keys, values = self._read(layer, place + gap, last + gap)
                self._write(layer, place, turn(layer, keys), values)
        self.first, self._begin = first // PAGE_TOKENS, first
        self.cut(end)

    def _read(self, layer: int, start: int, stop: int) -> tuple[Floats, Floats]:
        """Return the cells start to stop - 1 as keys [n, G*dk] and values [n, G*dv]."""
        block = start // PAGE_TOKENS
        pages = [self.pool.pool.read(layer, int(p)) for p in self.pages[block : pages_of(stop)]]
        own = slice(start - block * PAGE_TOKENS, stop - block * PAGE_TOKENS)
        keys, values = (np.concatenate(both)[own] for both in zip(*pages, strict=True))
        return keys, values

    def _write(self, layer: int, start: int, keys: Floats, values: Floats) -> None:
        """Overwrite the cells from `start` on; those before stay as they are, bit for bit."""
        pool, stop = self.pool.pool, start + len(keys)
        for block in range(start // PAGE_TOKENS, pages_of(stop)):
            page, near = int(self.pages[block]), block * PAGE_TOKENS
            first, last = max(start, near), min(stop, near + PAGE_TOKENS)
            k, v = keys[first - start : last - start], values[first - start : last - start]
            if len(k) == PAGE_TOKENS:
                pool.write(layer, page, k, v)
                continue
            kept = np.empty((first - near) * pool.cell_bytes(layer), np.uint8)
            pool.read_cells(layer, page, 0, first - near, kept)
            around = (first - near, near + PAGE_TOKENS - last), (0, 0)
            pool.write(layer, page, np.pad(k, around), np.pad(v, around))
            pool.write_cells(layer, page, 0, first - near, kept)

    def _part(self, block: int, page: int, *, copy: bool) -> None:
        """Take a page of its own in the place of a shared one."""
        own = self.pool.take()
        if copy:
            self.pool.pool.copy_page(page, own)
        self._set(block, own)
        self.pool.drop(page)

    def forget(self, n_tokens: int) -> None:
        """Drop pages that no query at `n_tokens` or later sees."""
        if self.pool.window:
            last = (n_tokens - self.pool.window) // PAGE_TOKENS - SLACK_PAGES
            self._drop(self.first, min(last, self.end))
            self.first = max(self.first, last)

    def can_cut(self, n_tokens: int) -> bool:
        """Return whether the cells are there that a query behind `n_tokens` sees."""
        return self.begin <= max(0, n_tokens + 1 - self.pool.window)

    def cut(self, n_tokens: int) -> None:
        """Drop all pages behind the first `n_tokens` cells."""
        keep = pages_of(n_tokens)
        self._drop(keep, self.end)
        self.end = min(self.end, keep)
        self.first, self._begin = min(self.first, keep), min(self._begin, n_tokens)

    def fork(self) -> "Column":
        """Return a column that shares all pages with this one."""
        twin = Column(self.pool)
        for page in self.pages[self.first : self.end]:
            if page != _NONE:
                self.pool.share(int(page))
        twin.pages, twin.table = self.pages.copy(), self.table.copy()
        twin.first, twin.end, twin._begin = self.first, self.end, self._begin
        return twin

    def held(self) -> Ints:
        """Return the pages that are held."""
        held: Ints = self.pages[self.pages != _NONE]
        return held

    def place(self, start: int, stop: int) -> tuple[int, int, int]:
        """Page of the cells start to stop - 1, which lie in one, and their places in it."""
        block = start // PAGE_TOKENS
        first = start - block * PAGE_TOKENS
        return int(self.pages[block]), first, first + stop - start

    def _grow(self, n_blocks: int) -> None:
        if n_blocks > len(self.pages):
            more = max(n_blocks, 2 * len(self.pages)) - len(self.pages)
            self.pages = np.concatenate([self.pages, np.full(more, _NONE, np.int32)])
            self.table = np.concatenate([self.table, np.zeros(more, np.int32)])

    def _set(self, block: int, page: int) -> None:
        self.pages[block] = self.table[block] = page

    def _drop(self, start: int, stop: int) -> None:
        for block in range(start, stop):
            page = int(self.pages[block])
            if page != _NONE:
                self.pages[block], self.table[block] = _NONE, 0
                self.pool.drop(page)
