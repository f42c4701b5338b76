"""Recurrent and convolution states of sequences: slots, counted references, earlier states kept.

A state has a fixed size and cannot be cut: going back to an earlier token needs the state of that
token. A run reads one slot and writes another, so the states at the ends of runs can be kept.
"""

import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from jitllm.backends.base import StatePool
from jitllm.llm.errors import BackendError

Floats = npt.NDArray[np.float32]

N_SLOTS = 256
"""Slots of a model, if memory allows; those never used cost nothing."""

KEPT = 3
"""Earlier states that a sequence keeps: those at the ends of its last long runs."""

LONG_RUN = 32
"""Tokens from the last kept state on that make a state worth keeping."""


class SlotPool:
    """References to the slots of a model's states.

    Parameters
    ----------
    pool : StatePool
        Of a backend.

    Attributes
    ----------
    reclaim : callable
        Asked for slots when none is free: returns whether it gave anything back.
    """

    def __init__(self, pool: StatePool) -> None:
        self.pool = pool
        self.reclaim: Callable[[], bool] = lambda: False
        self._references = [0] * pool.n_slots
        self._free = list(range(pool.n_slots - 1, -1, -1))
        self._lock = threading.RLock()  # a collected sequence may drop slots inside `take`

    @property
    def used_bytes(self) -> int:
        """Bytes of the slots that some sequence holds."""
        return (len(self._references) - len(self._free)) * self.pool.slot_bytes

    @property
    def n_free(self) -> int:
        """Number of slots nobody holds."""
        return len(self._free)

    def take(self) -> int:
        """Return a slot nobody holds; BackendError if there is none."""
        while True:
            with self._lock:
                if self._free:
                    slot = self._free.pop()
                    self._references[slot] = 1
                    return slot
            if not self.reclaim():
                n_slots, size = len(self._references), self.pool.slot_bytes
                raise BackendError(
                    f"expected a free slot for a sequence's states, {size} bytes; {n_slots * size} "
                    f"bytes, all {n_slots} are held; close sequences that are not needed any more, "
                    "or load the model with larger cache_bytes"
                )

    def n_holders(self, slot: int) -> int:
        """Return how many sequences hold the slot."""
        return self._references[slot]

    def share(self, slot: int) -> None:
        """Count one more holder of a slot."""
        with self._lock:
            self._references[slot] += 1

    def drop(self, slot: int) -> None:
        """Count one holder less; the last one frees the slot."""
        with self._lock:
            self._references[slot] -= 1
            if not self._references[slot]:
                self._free.append(slot)


class StateHistory:
    """The states of one sequence: behind its last token, and behind some earlier ones.

    Parameters
    ----------
    pool : SlotPool
    """

    def __init__(self, pool: SlotPool) -> None:
        self._pool = pool
        self._held: list[tuple[int, int]] = []  # (tokens, slot), ascending; the last is current
        self._next = -1

    @property
    def slots(self) -> tuple[int, int]:
        """Slot of the current states (-1: none yet) and the slot that the next run writes."""
        return (self._held[-1][1] if self._held else -1), self._next

    @property
    def nbytes(self) -> int:
        """Bytes of the slots held."""
        return (len(self._held) + (self._next >= 0)) * self._pool.pool.slot_bytes

    def held(self) -> dict[tuple[int, int], int]:
        """Return the bytes of every slot held, by pool and number."""
        size = self._pool.pool.slot_bytes
        return {(id(self._pool), slot): size for _, slot in self._held}

    def prepare(self) -> None:
        """Take the slot that the next run writes; where none is free, one of an earlier state.

        Raises
        ------
        BackendError
            If no slot is free and there are no earlier states, or only others hold them too.
        """
        while self._next < 0:
            if len(self._held) > 1 and not self._pool.n_free and not self._pool.reclaim():
                self._pool.drop(self._held.pop(0)[1])
            else:
                self._next = self._pool.take()

    def commit(self, n_tokens: int) -> None:
        """Make what the run wrote the current states, behind `n_tokens` tokens."""
        self._held.append((n_tokens, self._next))
        self._next = -1
        before = self._held[-3][0] if len(self._held) > 2 else 0
        if len(self._held) > 1 and self._held[-2][0] - before < LONG_RUN:
            self._pool.drop(self._held.pop(-2)[1])
        elif len(self._held) > KEPT + 1:
            self._pool.drop(self._held.pop(0)[1])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of each state."""
        return self._pool.pool.sizes

    @property
    def lengths(self) -> list[int]:
        """Numbers of tokens whose states are kept, ascending."""
        return [n for n, _ in self._held]

    def read(self, n_tokens: int) -> Floats:
        """Return all states behind `n_tokens` tokens, one after the other."""
        pool, slot = self._pool.pool, dict(self._held)[n_tokens]
        return np.concatenate([pool.read(slot, i) for i in range(len(pool.sizes))])

    def put(self, n_tokens: int, values: Floats) -> None:
        """Keep states behind `n_tokens` tokens, more than those kept before."""
        pool, slot = self._pool.pool, self._pool.take()
        self._held.append((n_tokens, slot))
        for i, part in enumerate(np.split(values, np.cumsum(pool.sizes)[:-1])):
            pool.write(slot, i, part)

    def nearest(self, n_tokens: int) -> int:
        """Return the most tokens, up to `n_tokens`, whose states are there; 0 always are."""
        return max((n for n, _ in self._held if n <= n_tokens), default=0)

    def cut(self, n_tokens: int) -> None:
        """Drop the states behind more than `n_tokens` tokens."""
        while self._held and self._held[-1][0] > n_tokens:
            self._pool.drop(self._held.pop()[1])
        if not n_tokens:
            self.release()

    def fork(self) -> "StateHistory":
        """Return a history that shares all slots with this one."""
        twin = StateHistory(self._pool)
        twin._held = list(self._held)
        for _, slot in self._held:
            self._pool.share(slot)
        return twin

    def release(self) -> None:
        """Drop all slots."""
        for _, slot in self._held:
            self._pool.drop(slot)
        self._held = []
        if self._next >= 0:
            self._pool.drop(self._next)
            self._next = -1
