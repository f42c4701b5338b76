"""Which pages of the caches a sequence holds: counted references, copies only when written to."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jitllm.backends.base import PAGE_TOKENS, Pool
from jitllm.backends.ir import CacheSpec
from jitllm.llm.errors import BackendError
from jitllm.llm.state.slots import SlotPool, StateHistory

Ints = npt.NDArray[np.int32]

SLACK_PAGES = 4
"""Pages kept behind a sliding window, so that short truncations need no recomputation."""

_SEQUENCES = 64  # full-length sequences that fit at once, if memory allows
_LEAST_PAGES = 4096  # many short sequences fit too; memory is used when it is written to
# Of the machine's memory, for all caches of a model. Windows counts memory when it is reserved.
_SHARE = 1 / 8 if os.name == "nt" else 1 / 2
_NONE = -1
_FIRST_BLOCKS = 8
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of Linux's control groups, version 2


def pages_of(n_tokens: int) -> int:
    """Return how many pages hold `n_tokens` cells."""
    return -(-n_tokens // PAGE_TOKENS)


def pool_pages(caches: Sequence[CacheSpec], n_ctx: int, max_tokens: int, itemsize: int) -> int:
    """Return how many pages each pool should have.

    Enough for 64 sequences of `n_ctx` tokens, less where all pools together would take more than
    half of the machine's memory.

    Parameters
    ----------
    caches : sequence of CacheSpec
    n_ctx : int
    max_tokens : int
        Rows of a run.
    itemsize : int
        Bytes of a number in a cache.
    """
    wanted = max(_SEQUENCES * pages_of(n_ctx), _LEAST_PAGES) + pages_of(max_tokens) + SLACK_PAGES
    numbers = sum(heads * (dk + dv) for spec in caches for heads, dk, dv in spec.layers)
    fitting = int(_SHARE * memory_bytes()) // max(1, numbers * PAGE_TOKENS * itemsize)
    return max(1, min(wanted, fitting))


def memory_bytes() -> int:
    """Return the machine's memory, or what a container may use of it."""
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return 1 << 34
    try:
        limit = int(_CONTAINER_LIMIT.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return machine
    return min(machine, limit)


class PagePool:
    """References to the pages of one cache.

    Parameters
    ----------
    pool : Pool
        Of a backend.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.window = pool.spec.window
        self._references: dict[int, int] = {}  # of the pages that are held
        self._free: list[int] = []  # of those that were held once
        self._n_touched = 0  # pages from here on were never held
        self._lock = threading.RLock()  # a collected sequence may drop pages inside `take`

    @property
    def used_pages(self) -> int:
        """Number of pages that some sequence holds."""
        return len(self._references)

    def take(self) -> int:
        """Return a page nobody holds; BackendError if there is none."""
        with self._lock:
            page = self._free.pop() if self._free else self._untouched()
            self._references[page] = 1
        return page

    def _untouched(self) -> int:
        n_pages = self.pool.n_pages
        if self._n_touched == n_pages:
            size = n_pages * self.pool.page_bytes / 2**20
            raise BackendError(
                f"expected a free page in a cache of {n_pages} pages ({PAGE_TOKENS} tokens each, "
                f"{size:.0f} MiB in all), all are held; close sequences that are not needed any "
                'more, or load the model with kv_dtype="f16" or on a machine with more memory'
            )
        self._n_touched += 1
        return self._n_touched - 1

    def share(self, page: int) -> None:
        """Count one more holder of a page."""
        with self._lock:
            self._references[page] += 1

    def drop(self, page: int) -> None:
        """Count one holder less; the last one frees the page."""
        with self._lock:
            self._references[page] -= 1
            if not self._references[page]:
                del self._references[page]
                self._free.append(page)

    def is_shared(self, page: int) -> bool:
        """Return whether several sequences hold the page."""
        return self._references[page] > 1


class _Column:
    """One sequence's pages in one cache; its tables grow with it."""

    def __init__(self, pool: PagePool) -> None:
        self.pool = pool
        self.pages: Ints = np.full(_FIRST_BLOCKS, _NONE, np.int32)
        self.table: Ints = np.zeros(_FIRST_BLOCKS, np.int32)  # what backends see: no -1
        self.first = 0  # blocks before this one fell out of the window
        self.end = 0  # blocks from this one on were never written

    def prepare(self, start: int, stop: int) -> None:
        """Make the cells start to stop - 1 writable for this sequence alone."""
        self._grow(pages_of(stop))
        for block in range(start // PAGE_TOKENS, pages_of(stop)):
            page = int(self.pages[block])
            if page == _NONE:
                self._set(block, self.pool.take())
            elif self.pool.is_shared(page):
                own = self.pool.take()
                if block * PAGE_TOKENS < start:
                    self.pool.pool.copy_page(page, own)
                self._set(block, own)
                self.pool.drop(page)
        self.end = max(self.end, pages_of(stop))

    def forget(self, n_tokens: int) -> None:
        """Drop pages that no query at `n_tokens` or later sees."""
        if self.pool.window:
            last = (n_tokens - self.pool.window) // PAGE_TOKENS - SLACK_PAGES
            self._drop(self.first, min(last, self.end))
            self.first = max(self.first, last)

    def can_cut(self, n_tokens: int) -> bool:
        """Return whether the cells are there that a query at `n_tokens - 1` sees."""
        return self.first * PAGE_TOKENS <= max(0, n_tokens - self.pool.window)

    def cut(self, n_tokens: int) -> None:
        """Drop all pages behind the first `n_tokens` cells."""
        keep = pages_of(n_tokens)
        self._drop(keep, self.end)
        self.end = min(self.end, keep)
        self.first = min(self.first, keep)

    def fork(self) -> "_Column":
        twin = _Column(self.pool)
        for page in self.pages[self.first : self.end]:
            if page != _NONE:
                self.pool.share(int(page))
        twin.pages, twin.table = self.pages.copy(), self.table.copy()
        twin.first, twin.end = self.first, self.end
        return twin

    def count(self) -> int:
        return int((self.pages != _NONE).sum())

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


class Cells:
    """What the caches and states of a model remember of one sequence.

    Parameters
    ----------
    pools : sequence of PagePool
    slots : SlotPool, optional
        Of the model's states, if it has any.
    """

    def __init__(self, pools: Sequence[PagePool], slots: SlotPool | None = None) -> None:
        self._columns = [_Column(pool) for pool in pools]
        self._states = StateHistory(slots) if slots else None

    @property
    def tables(self) -> list[Ints]:
        """Page table of each cache, int32, as long as was prepared; without a page: 0."""
        return [column.table for column in self._columns]

    @property
    def nbytes(self) -> int:
        """Bytes of the pages held; a page that several sequences share counts in each."""
        pages = sum(column.count() * column.pool.pool.page_bytes for column in self._columns)
        return pages + (self._states.nbytes if self._states else 0)

    def prepare(self, start: int, stop: int) -> None:
        """Make the cells start to stop - 1 writable: take pages, copy those that are shared.

        Raises
        ------
        BackendError
            If no page is free; what was taken stays held and is used by the next try.
        """
        for column in self._columns:
            column.prepare(start, stop)
        if self._states:
            self._states.prepare()

    @property
    def state_slots(self) -> tuple[int, int]:
        """Slot of the states behind the last token (-1: none), and the one to write next."""
        return self._states.slots if self._states else (-1, -1)

    def commit(self, n_tokens: int) -> None:
        """Note that a run has ended: the states written are those behind `n_tokens` tokens."""
        if self._states:
            self._states.commit(n_tokens)

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
        if self._states:
            n_tokens = self._states.nearest(n_tokens)
        if not all(column.can_cut(n_tokens) for column in self._columns):
            n_tokens = 0
        for column in self._columns:
            column.cut(n_tokens)
        if self._states:
            self._states.cut(n_tokens)
        return n_tokens

    def fork(self) -> "Cells":
        """Return cells that share all pages with these."""
        twin = Cells(())
        twin._columns = [column.fork() for column in self._columns]
        twin._states = self._states.fork() if self._states else None
        return twin

    def release(self) -> None:
        """Drop all pages."""
        for column in self._columns:
            column.cut(0)
        if self._states:
            self._states.release()
