"""Cutting a text where no token of a vocabulary reaches across."""

from collections.abc import Iterable

_SHORT = 64


class Cutter:
    """Cuts between neighbouring characters that stand side by side in no token.

    No cover by tokens reaches across such a place, so the parts can be encoded one by one, and
    most of them, words of the language, are seen again and again.

    Parameters
    ----------
    pieces : iterable of str
    """

    def __init__(self, pieces: Iterable[str]) -> None:
        joined: set[tuple[str, str]] = set()
        for piece in pieces:
            joined.update(zip(piece, piece[1:], strict=False))
        self._joined = joined

    def cut(self, text: str) -> list[str]:
        """Cut a text; joined, the parts are the text."""
        if len(text) < _SHORT:
            return [text] if text else []
        joined = self._joined
        pairs = enumerate(zip(text, text[1:], strict=False), 1)
        places = [i for i, pair in pairs if pair not in joined]
        return [text[i:j] for i, j in zip([0, *places], [*places, len(text)], strict=True)]
