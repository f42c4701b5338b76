"""Text of tokens that come one at a time."""

import codecs
from collections.abc import Callable


class TextStream:
    """Turns ids into text as they come and never gives half a character.

    Joined, what `put` and `flush` give is what decoding all ids at once gives.

    Parameters
    ----------
    piece : callable
        Bytes of an id; the second argument tells whether it is the first.
    """

    def __init__(self, piece: Callable[[int, bool], bytes]) -> None:
        self._piece = piece
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._first = True

    def put(self, token: int) -> str:
        """The text that this id completes; often empty inside a character of several tokens."""
        data = self._piece(token, self._first)
        self._first = False
        return self._decoder.decode(data)

    def flush(self) -> str:
        """What is left at the end: U+FFFD for an unfinished character, else nothing."""
        return self._decoder.decode(b"", final=True)
