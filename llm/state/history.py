"""Earlier moments of a sequence, kept in memory: pages and states are shared, not copied."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from jitllm.llm.errors import StateError
from jitllm.llm.state.contents import Contents


@dataclass(frozen=True, eq=False)
class Moment:
    """A sequence as it was.

    Attributes
    ----------
    label : str
    created : float
        Seconds since 1970.
    contents : Contents
    """

    label: str
    created: float
    contents: Contents

    @property
    def n_tokens(self) -> int:
        """How many tokens it had."""
        return len(self.contents.ids)

    def __repr__(self) -> str:
        return f"<Moment {self.label!r}: {self.n_tokens} tokens>"


class History(Sequence[Moment]):
    """The moments that a sequence keeps, oldest first. `Sequence.checkpoint` adds one."""

    def __init__(self) -> None:
        self._moments: list[Moment] = []

    def add(self, contents: Contents, label: str) -> Moment:
        """Keep contents that belong to nobody else; returns the moment."""
        moment = Moment(label, time.time(), contents)
        self._moments.append(moment)
        return moment

    def get(self, which: "int | str | Moment | None" = None) -> Moment:
        """Return a moment by its place or label (the newest of that label), or itself.

        Without an argument, the newest.

        Raises
        ------
        StateError
            If there is none; the message lists what there is.
        """
        if isinstance(which, int) and -len(self) <= which < len(self):
            return self._moments[which]
        for moment in reversed(self._moments):
            if which is None or which is moment or which == moment.label:
                return moment
        there = ", ".join(f"{i}: {m.label!r}" for i, m in enumerate(self)) or "none"
        raise StateError(f"expected a checkpoint {which!r}, the sequence keeps {there}")

    def drop(self, which: "int | str | Moment") -> None:
        """Forget a moment and give its memory back."""
        moment = self.get(which)
        self._moments.remove(moment)
        moment.contents.cells.release()

    def prune(self, max_bytes: int) -> int:
        """Forget the oldest moments until those left hold at most `max_bytes`; the newest stays.

        Returns
        -------
        int
            How many were forgotten.
        """
        before = len(self)
        while len(self) > 1 and self.nbytes > max_bytes:
            self.drop(0)
        return before - len(self)

    @property
    def nbytes(self) -> int:
        """Bytes of the pages and states that the moments hold, shared ones counted once."""
        held: dict[tuple[int, int], int] = {}
        for moment in self._moments:
            held |= moment.contents.cells.held()
        return sum(held.values())

    def close(self) -> None:
        """Forget all."""
        while self._moments:
            self._moments.pop().contents.cells.release()

    def fork(self) -> "History":
        """Return an independent history of the same moments."""
        twin = History()
        twin._moments = [Moment(m.label, m.created, m.contents.fork()) for m in self]
        return twin

    def __len__(self) -> int:
        return len(self._moments)

    @overload
    def __getitem__(self, index: int) -> Moment: ...

    @overload
    def __getitem__(self, index: slice) -> list[Moment]: ...

    def __getitem__(self, index: int | slice) -> Moment | list[Moment]:
        return self._moments[index]

    def __iter__(self) -> Iterator[Moment]:
        return iter(self._moments)

    def __repr__(self) -> str:
        return f"<History: {', '.join(map(repr, self)) or 'empty'}, {self.nbytes} bytes>"
