"""Pages of the caches: how many there are, who holds which."""

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from jitllm.backends.base import PAGE_TOKENS, Pool
from jitllm.backends.ir import CacheSpec
from jitllm.kernels.cache_types import cell_bytes
from jitllm.llm.errors import BackendError

SLACK_PAGES = 4
"""Pages kept behind a sliding window, so that short truncations need no recomputation."""

_SEQUENCES = 64  # full-length sequences that fit at once, if memory allows
_LEAST_PAGES = 4096  # many short sequences fit too; memory is used when it is written to
_LEAST_HELD = 128  # of a device that takes the memory at once: 8192 tokens
# Of the machine's memory, for all caches of a model. Windows counts memory when it is reserved.
_SHARE = 1 / 8 if os.name == "nt" else 1 / 2
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of Linux's control groups, version 2


def pages_of(n_tokens: int) -> int:
    """Return how many pages hold `n_tokens` cells."""
    return -(-n_tokens // PAGE_TOKENS)


def pool_pages(
    caches: Sequence[CacheSpec], n_ctx: int, max_tokens: int, kv_dtype: str, is_held: bool = False
) -> int:
    """Return how many pages each pool should have.

    Enough for 64 sequences of `n_ctx` tokens, less where all pools together would take more than
    half of the machine's memory. On a device that takes all of it at once, enough for one.

    Parameters
    ----------
    caches : sequence of CacheSpec
    n_ctx : int
    max_tokens : int
        Rows of a run.
    kv_dtype : str
        See `Backend.new_pool`.
    is_held : bool
        `Backend.holds_pools`.

    Raises
    ------
    ValueError
        If the heads of a layer are no whole blocks of that type.
    """
    more = pages_of(max_tokens) + SLACK_PAGES
    n_bytes = PAGE_TOKENS * sum(cell_bytes(kv_dtype, spec.layers) for spec in caches)
    if is_held:
        return max(pages_of(n_ctx), _LEAST_HELD) + more
    wanted = max(_SEQUENCES * pages_of(n_ctx), _LEAST_PAGES) + more
    fitting = int(_SHARE * memory_bytes()) // max(1, n_bytes)
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

    Attributes
    ----------
    reclaim : callable
        Asked for pages when there are too few: returns whether it gave anything back.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.reclaim: Callable[[], bool] = lambda: False
        self.window, self.cross = pool.spec.window, pool.spec.cross
        self._references: dict[int, int] = {}  # of the pages that are held
        self._free: list[int] = []  # of those that were held once
        self._n_touched = 0  # pages from here on were never held
        self._lock = threading.RLock()  # a collected sequence may drop pages inside `take`

    @property
    def used_pages(self) -> int:
        """Number of pages that some sequence holds."""
        return len(self._references)

    @property
    def n_free(self) -> int:
        """Number of pages nobody holds."""
        return len(self._free) + self.pool.n_pages - self._n_touched

    def need(self, n_pages: int) -> None:
        """Raise BackendError if so many pages are not free, and cannot be freed."""
        while self.n_free < n_pages:
            if not self.reclaim():
                size, total = self.pool.page_bytes, self.pool.n_pages
                raise BackendError(
                    f"expected a free page in a cache of {total} pages ({PAGE_TOKENS} tokens each, "
                    f"{total * size} bytes in all), {n_pages * size} bytes are wanted and "
                    f"{self.used_pages * size} are held; close sequences that are not needed any "
                    'more, or load the model with larger cache_bytes, with kv_dtype="q8_0", or on '
                    "a machine with more memory"
                )

    def take(self) -> int:
        """Return a page nobody holds; BackendError if there is none."""
        while True:
            self.need(1)
            with self._lock:
                if self.n_free:
                    page = self._free.pop() if self._free else self._untouched()
                    self._references[page] = 1
                    return page

    def _untouched(self) -> int:
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
        return self.n_holders(page) > 1

    def n_holders(self, page: int) -> int:
        """Return how many sequences hold the page."""
        return self._references[page]
