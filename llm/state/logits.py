"""Logits behind the last token: on the host, or on the device with what is needed of them here."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from jitllm.backends.base import Batch, Draw, Program
from jitllm.llm.failures import device_errors

if TYPE_CHECKING:
    from jitllm.llm.sampling import SamplerChain

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Turn = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Need:
    """What is needed of the logits behind a token; others may stay on the device.

    Attributes
    ----------
    n_best : int or None
        How many of the largest; None for all.
    draw : Draw or None
        How the device may choose the next token instead.
    """

    n_best: int | None = None
    draw: Draw | None = None

    @classmethod
    def of(cls, chain: "SamplerChain") -> "Need":
        """Return what samplers need for the next token."""
        return cls(chain.needs(), chain.draw())

    def join(self, other: "Need") -> "Need":
        """Return what is enough for both."""
        some = self.n_best, other.n_best
        n_best = None if None in some else max(filter(None, some), default=None)
        return Need(n_best, self.draw if self.draw == other.draw else None)


class Logits:
    """Logits behind one token; `whole` gives them.

    Parameters
    ----------
    whole : float32 [V]
    """

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
    n_vocab : int
    read : callable
        Returns all of them, in the engine's turn.
    turn : callable
        Returns a context manager that waits for it.
    """

    def __init__(self, n_vocab: int, read: Callable[[], Floats], turn: Turn) -> None:
        self.n_vocab, self._turn = n_vocab, turn
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


class BestLogits(DeviceLogits):
    """Logits of which the largest are here.

    Parameters
    ----------
    ids : int32 [k]
    values : float32 [k]
        The largest, descending, of equal ones the lower id first.
    *rest
        As of `DeviceLogits`.
    """

    def __init__(self, ids: Ints, values: Floats, *rest: Any) -> None:
        super().__init__(*rest)
        self._ids, self._values = ids, values

    def sample(self, chain: "SamplerChain") -> int:
        """Return the token that a chain chooses."""
        from jitllm.llm.sampling.base import Candidates

        n = chain.needs()
        if n is None or n > len(self._ids):
            return super().sample(chain)
        order = np.argsort(self._ids)
        ids, values = self._ids[order], self._values[order]
        return chain.sample_from(Candidates(values, ids, self.n_vocab))


class DrawnLogits(DeviceLogits):
    """Logits from which the device has chosen a token.

    Parameters
    ----------
    token : int
        Below 0 if none can be chosen.
    draw : Draw
        How it was chosen.
    *rest
        As of `DeviceLogits`.
    """

    def __init__(self, token: int, draw: Draw, *rest: Any) -> None:
        super().__init__(*rest)
        self._token, self._draw = token, draw

    def sample(self, chain: "SamplerChain") -> int:
        """Return the token that a chain chooses: the device's, if this one would do the same."""
        if self._token < 0 or chain.draw() != self._draw:
            return super().sample(chain)
        chain.drawn()
        return self._token


class LastRows:
    """The last run that left its logits on the device.

    Parameters
    ----------
    turn : callable
        As of `DeviceLogits`.
    """

    def __init__(self, turn: Turn) -> None:
        self._turn, self._held = turn, WeakSet[DeviceLogits]()

    def run(
        self, program: Program, batch: Batch, needs: Sequence[Need], n_vocab: int
    ) -> list[DeviceLogits] | None:
        """Run a batch and return what is known of each output row.

        None, and nothing is run, if there are no such rows or the host needs all their logits.

        Parameters
        ----------
        program : Program
        batch : Batch
        needs : sequence of Need
            One for each output row.
        n_vocab : int
        """
        n_best = max((need.n_best or n_vocab for need in needs), default=0)
        draws = [need.draw for need in needs if need.draw and program.can_draw(need.draw)]
        is_drawn = len(draws) == len(needs)
        if not needs or not (is_drawn or n_best <= program.most_best):
            return None
        self.fetch()
        rest = [(n_vocab, _reader(program, row), self._turn) for row in range(len(needs))]
        rows: list[DeviceLogits]
        with device_errors():
            if is_drawn:
                tokens = program.draw(batch, draws).tolist()
                rows = [DrawnLogits(t, d, *r) for t, d, r in zip(tokens, draws, rest, strict=True)]
            else:
                ids, values = program.best(batch, n_best)
                rows = [BestLogits(i, v, *r) for i, v, r in zip(ids, values, rest, strict=True)]
        self._held.update(rows)
        return rows

    def fetch(self) -> None:
        """Copy to the host what somebody still has, before the program runs again."""
        for logits in list(self._held):
            logits.fetch()
        self._held.clear()


def _reader(program: Program, row: int) -> Callable[[], Floats]:
    return lambda: program.logits(row)
