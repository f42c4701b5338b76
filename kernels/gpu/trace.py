"""How the warps of a GPU kernel's workgroup touch memory: sectors, and banks of shared memory."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jitllm.kernels import jit
from jitllm.kernels.cpu import fiber_layout as layout
from jitllm.kernels.gpu.compiler import Code
from jitllm.kernels.gpu.simulator import Watcher

SECTOR_BYTES, WARP, BANKS, BANK_BYTES = 32, 32, 32, 4
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Site:
    """The loads or stores at a place in a kernel's source, by the warps of a workgroup.

    Attributes
    ----------
    place : str
        Such as `norm.py:33`.
    is_shared, is_store : bool
    lane_bytes : int
        What a thread loads or stores at once.
    requests : int
        How often a warp did.
    steps : int
        Sectors of 32 bytes that requests take, or passes over the banks of shared memory.
    distinct : int
        Sectors that are left when those of several requests count once; 0 for shared memory.
    efficiency : float
        Part that is used of the sectors' bytes; of shared memory, the passes that would be enough
        without conflicts of banks, of those that it takes.
    """

    place: str
    is_shared: bool
    is_store: bool
    lane_bytes: int
    requests: int
    steps: int
    distinct: int
    efficiency: float


class Trace(Watcher):
    """Keeps what one workgroup of each launch touches.

    Parameters
    ----------
    most : int
        Accesses that there is room for.
    """

    def __init__(self, most: int = 1 << 22) -> None:
        self._entries = np.zeros((most, layout.ENTRY_WORDS), np.int64)
        self._words = np.zeros(layout.TRACE_WORDS, np.int64)
        self._words[layout.ENTRIES] = self._entries.ctypes.data
        self._words[layout.MOST_ENTRIES] = most
        self._places: tuple[str, ...] = ()
        self.group = 0  # its number: x, then y, then z

    def begin(self) -> None:
        """Keep nothing of launches that are over; see `Watcher`."""
        self._words[layout.N_ENTRIES] = 0

    def words(self, code: Code, grid: tuple[int, int, int]) -> dict[int, int]:
        """Return words of a GPU's state; see `Watcher`."""
        self._places = code.accesses
        self._words[layout.WANTED_GROUP], self._words[layout.N_ENTRIES] = self.group, 0
        place, words = jit.address("fiber_trace", "record"), self._words.ctypes.data
        return {layout.PLACE: place, layout.WATCH: words}

    def report(self, state: npt.NDArray[np.int64], arrays: npt.NDArray[np.int64]) -> str:
        """Find nothing wrong; see `Watcher`."""
        return ""

    def sites(self) -> list[Site]:
        """Return what the last launch did, in the order of the source.

        Raises
        ------
        ValueError
            If that was more than there is room for.
        """
        n, most = int(self._words[layout.N_ENTRIES]), len(self._entries)
        if n > most:
            raise ValueError(f"{n} accesses, there is room for {most}")
        address, rest = self._entries[:n].T
        thread, size, shared, store, place = _fields(rest)
        kinds = np.unique(np.stack([place, store, shared, size]), axis=1).T
        found = list[Site]()
        for kind in kinds.tolist():
            chosen = np.all(np.stack([place, store, shared, size], 1) == kind, axis=1)
            number, is_store, is_shared, n_bytes = kind
            measure = _passes if is_shared else _sectors
            numbers = measure(address[chosen], thread[chosen], n_bytes)
            names = self._places[number], bool(is_shared), bool(is_store), n_bytes
            found.append(Site(*names, *numbers))
        return found


def _fields(rest: _Ints) -> list[_Ints]:
    """Return the parts of the words that entries have beside the address."""
    ends = [*layout.ENTRY_SHIFTS[1:], 63]
    return [
        rest >> start & (1 << end - start) - 1
        for start, end in zip(layout.ENTRY_SHIFTS, ends, strict=True)
    ]


def _requests(thread: _Ints) -> _Ints:
    """Number what a warp's lanes do at once: each for the same time at this place."""
    order = np.argsort(thread, kind="stable")
    ordered = thread[order]
    first = np.searchsorted(ordered, ordered)
    times = np.empty_like(thread)
    times[order] = np.arange(len(thread)) - first
    return times * (layout.MAX_THREADS // WARP) + thread // WARP


def _count(*columns: _Ints) -> int:
    """Return how many different rows there are."""
    return len(np.unique(np.stack(columns), axis=1).T)


def _sectors(address: _Ints, thread: _Ints, n_bytes: int) -> tuple[int, int, int, float]:
    """Return requests, sectors, different sectors and the part that is used."""
    request, sector = _requests(thread), address // SECTOR_BYTES
    sectors, used = _count(request, sector), _count(request, address) * n_bytes
    return _count(request), sectors, _count(sector), used / (sectors * SECTOR_BYTES)


def _passes(address: _Ints, thread: _Ints, n_bytes: int) -> tuple[int, int, int, float]:
    """Return requests, passes over shared memory, 0, and the part that is needed.

    Lanes with more than 4 bytes go in groups of 32 words. In a pass, each bank gives one word.
    """
    request = _requests(thread)
    words = max(1, n_bytes // BANK_BYTES)
    part = request * WARP + thread % WARP * words // WARP
    word = (address[:, None] // BANK_BYTES + np.arange(words)).ravel()
    parts, words_of = np.unique(np.stack([np.repeat(part, words), word]), axis=1)
    banks, counts = np.unique(np.stack([parts, words_of % BANKS]), axis=1, return_counts=True)
    ends = np.flatnonzero(np.diff(banks[0], append=-1))
    starts = np.concatenate([[0], ends[:-1] + 1])
    passes = int(np.maximum.reduceat(counts, starts).sum())
    return _count(request), passes, 0, _count(part) / passes
