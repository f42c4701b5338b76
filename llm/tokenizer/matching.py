"""Which pieces of a vocabulary begin at a place in a text."""

from collections.abc import Iterable

_HEAD = 4
_CACHED_HEADS = 1 << 16


class PieceLengths(dict[str, tuple[int, ...]]):
    """Lengths that pieces with a given beginning may have, longest first.

    Ask with the next `head` characters of a text, or all that are left, and look the few slices
    of these lengths up: this costs less in Python than a walk down a tree of characters.

    Parameters
    ----------
    pieces : iterable of str
        Not empty.

    Attributes
    ----------
    longest : int
        Length of the longest piece.
    """

    head = _HEAD

    def __init__(self, pieces: Iterable[str]) -> None:
        super().__init__()
        self.longest = 0
        self._short: set[str] = set()
        self._long: dict[str, set[int]] = {}
        for piece in pieces:
            self.longest = max(self.longest, len(piece))
            if len(piece) < _HEAD:
                self._short.add(piece)
            else:
                self._long.setdefault(piece[:_HEAD], set()).add(len(piece))

    def __missing__(self, head: str) -> tuple[int, ...]:
        long = sorted(self._long.get(head, ()), reverse=True)
        short = [n for n in range(min(len(head), _HEAD - 1), 0, -1) if head[:n] in self._short]
        if len(self) >= _CACHED_HEADS:
            self.clear()
        lengths = self[head] = (*long, *short)
        return lengths
