"""`rwkv`: from left to right the longest token, over bytes."""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from jitllm.llm.tokenizer.base import BaseEncoder, Rules, text_bytes
from jitllm.llm.tokenizer.matching import PieceLengths
from jitllm.llm.tokenizer.merging import HUGE_TEXT

if TYPE_CHECKING:
    from jitllm.llm.tokenizer.compiled import Longest

_ESCAPES = {"t": "\t", "n": "\n", "r": "\r"}


class Encoder(BaseEncoder):
    """Takes the longest token that the rest of the text begins with, again and again.

    The file writes bytes as in Python's source: `\\n`, `\\xff`. Peng et al. 2024, "Eagle and
    Finch: RWKV with Matrix-Valued States and Dynamic Recurrence", section 5.
    """

    rules = Rules(framed=False)

    def encode(self, text: str, at_start: bool) -> list[int]:
        """Ids of a text; where it stands makes no difference."""
        if len(text) in HUGE_TEXT and self._longest:
            whole = text.encode()
            return self.known_ids(self._longest(whole, np.array([len(whole)])))
        ids, lengths = self._ids_and_lengths
        head = lengths.head
        data = text.encode().decode("latin-1")
        out = []
        start, end = 0, len(data)
        while start < end:
            for length in lengths[data[start : start + head]]:
                token = ids.get(data[start : start + length])
                if token is not None:
                    out.append(token)
                    start += length
                    break
            else:
                out.append(self.unknown_id)
                start += 1
        return out

    def normal_bytes(self, text: str) -> bytes:
        """The bytes that the text describes."""
        return unescape(text)

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for, whatever its type."""
        return unescape(self.vocabulary.tokens[token])

    @cached_property
    def _longest(self) -> "Longest | None":
        from jitllm.llm.tokenizer.compiled import longest

        ids = {text.encode("latin-1"): token for text, token in self._ids_and_lengths[0].items()}
        return longest(ids, whole=False)

    @cached_property
    def _ids_and_lengths(self) -> tuple[dict[str, int], PieceLengths]:
        # one character for each byte: slices of str are found faster than those of bytes
        texts = (unescape(text).decode("latin-1") for text in self.vocabulary.tokens)
        ids = {text: token for token, text in enumerate(texts) if text}
        return ids, PieceLengths(ids)


def unescape(text: str) -> bytes:
    r"""The bytes of a text with escapes `\t`, `\n`, `\r`, `\xhh`; others give the character.

    Two characters follow `\x` whatever they are; what is cut off at the end is left out.
    """
    if "\\" not in text:
        return text_bytes(text)
    out = bytearray()
    parts = iter(text_bytes(text).decode("latin-1"))
    for char in parts:
        if char != "\\":
            out.append(ord(char))
            continue
        following = next(parts, "")
        if following == "x":
            digits = [_digit(digit) for _, digit in zip(range(2), parts, strict=False)]
            if len(digits) == 2:
                out.append((digits[0] * 16 + digits[1]) & 0xFF)
        else:
            out += _ESCAPES.get(following, following).encode("latin-1")
    return bytes(out)


def _digit(char: str) -> int:
    code = ord(char)
    return code - ord("a") + 10 if char >= "a" else code - ord("0")
