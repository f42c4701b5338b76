"""Finds threads of GPU kernels that touch the same byte with no barrier between them.

At least one of the two writes. On a GPU the order is then left to chance, even if the simulator's
gives the expected result.
"""

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.kernels import jit
from jitllm.kernels.cpu import fiber_layout as layout
from jitllm.kernels.gpu.compiler import Code
from jitllm.kernels.gpu.simulator import Watcher

_PAGE_BYTES = layout.CELL_WORDS * 8 << layout.PAGE_BITS
_MOST_FINDINGS = 32
_WHAT = ("reads", "reads", "writes", "writes")
_OTHERS = ("", "wrote", "wrote", "read")
_WHO = ("", "lane {} of its warp", "thread {} of another warp", "thread {} of another workgroup")
_MISSING = ("", "sync_warp", "sync_threads", "order")


class Races(Watcher):
    """Watches launches; those since `begin` are taken to run at once.

    Shared memory that a thread reads before any has written it is found too.

    Parameters
    ----------
    most_bytes : int
        Memory that those launches may touch; 24 times as much is reserved, and taken as they do.
    """

    def __init__(self, most_bytes: int = 1 << 25) -> None:
        self._most = most_bytes >> layout.PAGE_BITS
        self._words = np.zeros(layout.RACES_WORDS, np.int64)
        self._slots = np.zeros((1 << self._most.bit_length() + 1, 2), np.int64)
        self._pages = np.zeros(self._most * _PAGE_BYTES, np.uint8)
        self._findings = np.zeros((_MOST_FINDINGS, layout.FINDING_WORDS), np.int64)
        self._sites, self._first, self._epoch = list[str](), dict[Any, int](), 0
        self._set({
            layout.SLOTS: self._slots.ctypes.data, layout.TABLE_MASK: len(self._slots) - 1,
            layout.PAGES: self._pages.ctypes.data, layout.MOST_PAGES: self._most,
            layout.FINDINGS: self._findings.ctypes.data, layout.MOST_FINDINGS: _MOST_FINDINGS,
        })  # fmt: skip

    def _set(self, words: dict[int, int]) -> None:
        self._words[list(words)] = list(words.values())

    def begin(self) -> None:
        """Let the launches from here on see what those before have written."""
        is_full = self._words[layout.N_PAGES] > self._most // 2
        if is_full or self._epoch > layout.MAX_EPOCH // 2 or len(self._sites) > 8192:
            used = int(self._words[layout.N_PAGES]) * _PAGE_BYTES
            ctypes.memset(self._pages.ctypes.data, 0, used)
            self._slots[:] = 0
            self._sites, self._first, self._epoch = [], {}, 0
            self._set({layout.N_PAGES: 0})
        self._set({layout.OLDEST: self._epoch + 1})

    def words(self, code: Code, grid: tuple[int, int, int]) -> dict[int, int]:
        """Return words of a GPU's state; see `Watcher`."""
        if code.name not in self._first:
            self._first[code.name] = len(self._sites)
            self._sites += code.accesses
        self._set({layout.FIRST_SITE: self._first[code.name], layout.N_FINDINGS: 0})
        return {
            layout.PLACE: jit.address("fiber_races", "watch"), layout.EPOCH: self._epoch,
            layout.WATCH: self._words.ctypes.data,
        }  # fmt: skip

    def report(self, state: npt.NDArray[np.int64], arrays: npt.NDArray[np.int64]) -> str:
        """Say what was found; see `Watcher`.

        Raises
        ------
        ValueError
            If the launches touched more memory, or met more often, than can be watched.
        """
        self._epoch = int(state[layout.EPOCH])
        is_full = self._words[layout.N_PAGES] == self._most
        if is_full or self._epoch > layout.MAX_EPOCH or len(self._sites) >> layout.SITE_BITS:
            raise ValueError("the launches since `begin` are more than can be watched")
        n = self._words[layout.N_FINDINGS]
        return "; ".join(self._text(finding, arrays) for finding in self._findings[:n].tolist())

    def _text(self, finding: list[int], arrays: npt.NDArray[np.int64]) -> str:
        what, address, own, other, far, *group = finding
        thread, site = self._who(own)
        where = _place(address, arrays)
        begin = f"thread {thread} of workgroup {tuple(group)} {_WHAT[what]} {where} at {site}"
        if what == layout.READ_UNWRITTEN:
            return f"{begin}, which no thread wrote"
        thread, site = self._who(other)
        return (
            f"{begin}, {_WHO[far].format(thread % 32 if far == layout.OTHER_LANE else thread)} "
            f"{_OTHERS[what]} it at {site}, with no {_MISSING[far]} between"
        )

    def _who(self, word: int) -> tuple[int, str]:
        """Return the thread and the place in the source of a word."""
        thread = word >> layout.THREAD_SHIFT & (1 << layout.THREAD_BITS) - 1
        return thread, self._sites[word & (1 << layout.SITE_BITS) - 1]


def _place(address: int, arrays: npt.NDArray[np.int64]) -> str:
    for i, (start, end) in enumerate(arrays.tolist()):
        if start <= address < end:
            return f"byte {address - start} of shared array {i}"
    return f"memory at {address:#x}"
