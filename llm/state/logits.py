"""Logits behind the last token: on the host, or on the device with the largest of them here."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from jitllm.backends.base import Batch, Program
from jitllm.llm.failures import device_errors

if TYPE_CHECKING:
    from jitllm.llm.sampling import SamplerChain

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Turn = Callable[[], AbstractContextManager[None]]


class Logits:
    """Logits behind one token; `whole` gives them.

    Parameters
    ----------
    whole : float32 [V]
    """

    n_best = 0
    """How many of the largest are known; 0 where it makes no difference."""

    def __init__(self, whole: Floats) -> None:
        self._whole: Floats | None = whole
        self.nbytes = whole.nbytes

    def whole(self) -> Floats:
        """Return them, float32 [V], which must not be changed."""
        assert self._whole is not None
        return self._whole

    def sample(self, chain: "SamplerChain") -> int:
        """Return the token that a chain chooses."""
        return chain.sample(self.whole())


class DeviceLogits(Logits):
    """Logits that are on the device until somebody wants all of them, or another run begins.

    Parameters
    ----------
    ids : int32 [k]
    values : float32 [k]
        The largest, descending, of equal ones the lower id first.
    n_vocab : int
    read : callable
        Returns all of them, in the engine's turn.
    turn : callable
        Returns a context manager that waits for it.
    """

    def __init__(
        self, ids: Ints, values: Floats, n_vocab: int, read: Callable[[], Floats], turn: Turn
    ) -> None:
        self._ids, self._values, self.n_best = ids, values, len(ids)
        self._n_vocab, self._turn = n_vocab, turn
        self._read: Callable[[], Floats] | None = read
        self._whole, self.nbytes = None, 4 * n_vocab

    def fetch(self) -> None:
        """Copy them to the host, in a turn that has begun."""
        if self._read:
            with device_errors():
                self._whole = self._read()
            self._read = None

    def whole(self) -> Floats:
        """Return them, float32 [V], which must not be changed."""
        if self._whole is None:
            with self._turn():
                self.fetch()
        return super().whole()

    def sample(self, chain: "SamplerChain") -> int:
        """Return the token that a chain chooses."""
        from jitllm.llm.sampling.base import Candidates

        n = chain.needs()
        if n is None or n > self.n_best:
            return super().sample(chain)
        order = np.argsort(self._ids)
        ids, values = self._ids[order], self._values[order]
        return chain.sample_from(Candidates(values, ids, self._n_vocab))


class LastRows:
    """The last run that left its logits on the device.

    Parameters
    ----------
    turn : callable
        As of `DeviceLogits`.
    """

    def __init__(self, turn: Turn) -> None:
        self._turn, self._held = turn, WeakSet[DeviceLogits]()

    def run(self, program: Program, batch: Batch, n_best: int, n_vocab: int) -> list[Logits]:
        """Run a batch and return what is known of each output row."""
        ids, values = program.best(batch, n_best)

        def reader(row: int) -> Callable[[], Floats]:
            return lambda: program.logits(row)

        rows = [
            DeviceLogits(own, best, n_vocab, reader(row), self._turn)
            for row, (own, best) in enumerate(zip(ids, values, strict=True))
        ]
        self._held.update(rows)
        return [*rows]

    def fetch(self) -> None:
        """Copy to the host what somebody still has, before the program runs again."""
        for logits in list(self._held):
            logits.fetch()
        self._held.clear()
