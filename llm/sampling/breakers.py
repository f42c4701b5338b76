"""Finds the token sequences that spell a text, for DRY's sequence breakers."""

from collections.abc import Callable, Sequence

_MAX_TEXT_BYTES = 40
_MAX_TAIL = 20


class BreakerIndex:
    """Callable from a text to every token sequence whose pieces may contain it.

    A token that contains the text is a sequence of its own. A token that ends with a beginning of
    the text is the head of a sequence whose tail spells the rest.

    Parameters
    ----------
    pieces
        `[V]` the bytes of each token.
    encode
        Bytes to token ids, without special tokens and without a leading space.
    """

    def __init__(self, pieces: Sequence[bytes], encode: Callable[[bytes], Sequence[int]]) -> None:
        self._pieces = pieces
        self._encode = encode
        self._known: dict[str, list[tuple[int, ...]]] = {}

    def __call__(self, text: str) -> list[tuple[int, ...]]:
        """Return the sequences, each a head token and its tail."""
        if text not in self._known:
            self._known[text] = self._search(text.encode()[:_MAX_TEXT_BYTES])
        return self._known[text]

    def _search(self, text: bytes) -> list[tuple[int, ...]]:
        whole = {token for token, piece in enumerate(self._pieces) if text in piece}
        found: list[tuple[int, ...]] = [(token,) for token in whole]
        for cut in range(1, len(text)):
            start, tail = text[:cut], tuple(self._encode(text[cut:]))[:_MAX_TAIL]
            found += [
                (token, *tail)
                for token, piece in enumerate(self._pieces)
                if token not in whole and piece.endswith(start)
            ]
        return list(dict.fromkeys(found))
