"""SentencePiece's precompiled normalizer: a map of byte strings to their replacements."""

import re

import numpy as np

from jitllm.llm.errors import ModelFormatError

_KEY = "tokenizer.ggml.precompiled_charsmap"
_REPLACEMENT = "\ufffd".encode().decode("latin-1")
_LABEL = (1 << 31) | 0xFF


class Charsmap:
    """Replaces the longest key at each place; what is no key stays, invalid UTF-8 is replaced.

    The keys are an XOR-compressed double array: Kanda 2018, "Space- and Time-Efficient String
    Dictionaries", as in Darts-clone, whose 32-bit units hold a label in bits 0 to 7, whether a key
    ends in bit 8, and the offset of the children in bits 10 to 30, times 256 if bit 9 is set.
    All texts have one character for each byte (Latin-1).

    Parameters
    ----------
    data : bytes
        Size of the double array in bytes, uint32; its units; the replacements, each with a zero
        byte behind it. May be empty: a map without keys.
    kept : frozenset of str
        Beginnings of texts that stay as they are, before any key.

    Raises
    ------
    ModelFormatError
        If the sizes do not fit.
    """

    def __init__(self, data: bytes, kept: frozenset[str]) -> None:
        self._units: list[int] = []
        self._replacements = ""
        self._kept = kept
        if data:
            size = int.from_bytes(data[:4], "little")
            if len(data) < 4 or size + 4 >= len(data):
                raise _damaged("its sizes do not fit")
            self._units = np.frombuffer(data, "<u4", size // 4, 4).tolist()
            self._replacements = data[4 + size :].decode("latin-1")
        self._plain = re.compile(self._plain_pattern())
        self.splits_at_spaces = not any(" " in text for text in kept) and self._no_key_goes_on()

    def apply(self, text: str) -> str:
        """Replace in a whole text.

        Raises
        ------
        ModelFormatError
            If the map is damaged where the text needs it.
        """
        out = []
        start = 0
        try:
            while start < len(text):
                plain = self._plain.match(text, start)
                if plain:
                    out.append(plain[0])
                    start = plain.end()
                    continue
                written, used = self._prefix(text, start)
                out.append(written)
                start += used
        except IndexError:
            raise _damaged("an offset leads outside") from None
        return "".join(out)

    def _plain_pattern(self) -> str:
        """A pattern for characters that begin no key and nothing kept: most of any text."""
        begun = {text[0] for text in self._kept}
        free = [byte for byte in range(1, 256) if chr(byte) not in begun]
        ascii_ = [byte for byte in free if byte < 0x80 and not self._matters(byte)]
        leads = [byte for byte in free if not self._goes_on(0, byte)]
        return (
            rf"(?:{_one_of(ascii_)}+(?![\x80-\xff])"
            rf"|{_one_of([b for b in leads if 0xC0 <= b < 0xE0])}[\x80-\xbf]"
            rf"|{_one_of([b for b in leads if 0xE0 <= b < 0xF0])}[\x80-\xbf]{{2}})+"
        )

    def _matters(self, byte: int) -> bool:
        """Whether an ASCII character is a key, or more ASCII may follow it in one."""
        if not self._goes_on(0, byte):
            return False
        node = _children(self._units[0]) ^ byte
        if node >= len(self._units) or self._units[node] >> 8 & 1:
            return True
        return any(self._goes_on(node, following) for following in range(1, 0x80))

    def _goes_on(self, node: int, byte: int) -> bool:
        """Whether a byte may follow in a key; so it seems where the array is damaged."""
        if not self._units:
            return False
        child = node ^ _children(self._units[node]) ^ byte
        return child >= len(self._units) or self._units[child] & _LABEL == byte

    def _prefix(self, text: str, start: int) -> tuple[str, int]:
        kept = self._kept_length(text, start)
        if kept:
            return text[start : start + kept], kept
        length, offset = self._longest_key(text, start)
        if length:
            end = self._replacements.find("\0", offset)
            if end < 0:
                raise _damaged("a replacement has no end")
            return self._replacements[offset:end], length
        length = _char_length(text, start)
        return (text[start : start + length], length) if length else (_REPLACEMENT, 1)

    def _kept_length(self, text: str, start: int) -> int:
        end = start
        if self._kept:
            while end < len(text) and text[start : end + 1] in self._kept:
                end += 1
        return end - start

    def _longest_key(self, text: str, start: int) -> tuple[int, int]:
        """Length of the longest key, and where its replacement begins."""
        units = self._units
        if not units:
            return 0, 0
        found = 0, 0
        node = _children(units[0])
        for i in range(start, len(text)):
            byte = ord(text[i])
            if not byte:
                break
            node ^= byte
            unit = units[node]
            if unit & _LABEL != byte:
                break
            node ^= _children(unit)
            if unit >> 8 & 1:
                found = i + 1 - start, units[node] & 0x7FFFFFFF
        return found

    def _no_key_goes_on(self) -> bool:
        """Whether no key has a space in it, unless it is a space: then words are independent."""
        units = np.array(self._units, np.int64)
        if not len(units):
            return True
        labels = units & _LABEL
        spaces = np.flatnonzero(labels == ord(" "))
        first = _children(self._units[0]) ^ ord(" ")
        if not set(spaces.tolist()) <= {first}:
            return False
        if not len(spaces):
            return True
        bytes_ = np.arange(1, 256)
        children = (first ^ _children(self._units[first])) ^ bytes_
        inside = children < len(units)
        return not np.any(labels[children[inside]] == bytes_[inside])


def _one_of(codes: list[int]) -> str:
    """A pattern for one of some characters; for none, one that never matches."""
    return "[" + "".join([rf"\x{code:02x}" for code in codes]) + "]" if codes else "(?!)"


def _children(unit: int) -> int:
    return (unit >> 10) << ((unit & (1 << 9)) >> 6)


def _char_length(text: str, start: int) -> int:
    """Bytes of the character at a place, 0 where there is none."""
    lead = text[start]
    if lead < "\x80":
        return 1
    length = 0 if lead < "\xc0" else 2 if lead < "\xe0" else 3 if lead < "\xf0" else 4
    follow = text[start + 1 : start + length]
    whole = len(follow) == length - 1 and all("\x80" <= char < "\xc0" for char in follow)
    return length if whole and lead < "\xf8" else 0


def _damaged(what: str) -> ModelFormatError:
    return ModelFormatError(f"{_KEY}: {what}; convert the model again")
