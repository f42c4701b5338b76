"""`gpt2`: byte-level BPE after a split by regular expressions."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jitllm.llm.errors import ModelFormatError
from jitllm.llm.tokenizer.base import SPACE_MARK, BaseEncoder, Rules, byte_token, text_bytes
from jitllm.llm.tokenizer.merging import (
    HUGE_TEXT,
    LONG_TEXT,
    chars_joined_to,
    cut_before,
    merge_symbols,
)
from jitllm.llm.tokenizer.pretokenizers import pretokenizer
from jitllm.llm.tokenizer.vocabulary import Metadata, Vocabulary, read_strings

if TYPE_CHECKING:
    from jitllm.llm.tokenizer.compiled import Merger

Bytes = NDArray[np.uint8]
Ends = NDArray[np.int64]

_CACHED_WORDS = 1 << 16
_MERGES = "tokenizer.ggml.merges"


def _byte_chars() -> dict[int, str]:
    # GPT-2's table: printable bytes stand for themselves, the others for characters from 256 on
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(others)}}


_CHAR_OF_BYTE = _byte_chars()
_BYTE_OF_CHAR = {char: byte for byte, char in _CHAR_OF_BYTE.items()}


def _as_chars(
    data: Bytes, ends: Ends, ids: Mapping[str, int]
) -> tuple[Bytes, Ends, NDArray[np.int32]]:
    """Return UTF-8 of the characters that bytes are written as, where words end, spare ids."""
    texts = [_CHAR_OF_BYTE[byte].encode() for byte in range(256)]
    table = np.array([list(text.ljust(2, b"\0")) for text in texts], np.uint8)
    spare = np.array([(ids.get(_CHAR_OF_BYTE[byte], -1), -1) for byte in range(256)], np.int32)
    used = table[data] > 0
    stops = np.concatenate([[0], np.cumsum(used.sum(axis=1))])
    return table[data][used], stops[ends], spare[data][used]


class Encoder(BaseEncoder):
    """Joins the characters of each word by the rank of the merge in the file.

    Bytes are written as printable characters (GPT-2), or, where the pre-tokenizer says
    `raw_utf8`, characters stand for themselves, spaces for marks, and missing ones for byte
    tokens. Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".

    Raises
    ------
    UnsupportedTokenizer
        If the pre-tokenizer is not known.
    ModelFormatError
        If the file has no merges.
    """

    default_id: int | None = 11
    pre: str | None = None

    def __init__(self, vocabulary: Vocabulary, metadata: Metadata) -> None:
        super().__init__(vocabulary, metadata)
        self.variant = self.pre or str(metadata.get("tokenizer.ggml.pre", "")) or "default"
        self._pre = pre = pretokenizer(self.variant)
        self._lines = pre.raw_utf8 and not pre.keeps_spaces
        self._has_merges = _MERGES in metadata
        if not self._has_merges and self.variant != "kimi-k2":
            raise ModelFormatError(f"{_MERGES}: expected the merges of BPE, got nothing")
        self.rules = Rules(
            bos=None if pre.no_bos else self.default_id,
            eos=self.default_id,
            add_bos=pre.add_bos,
            clean_spaces=pre.clean_spaces,
            force_bos=pre.force_bos,
        )
        self._words: dict[str, list[int]] = {}

    def encode(self, text: str, at_start: bool) -> list[int]:
        """Ids of a text; where it stands makes no difference."""
        if len(text) in HUGE_TEXT and self._merger:
            return self._encode_huge(text, self._merger)
        ids = []
        cached = self._words
        for word in self._split(text):
            found = cached.get(word)
            if found is None:
                if len(cached) >= _CACHED_WORDS:
                    cached.clear()
                found = cached[word] = self._encode_word(word)
            ids += found
        return ids

    def normal_bytes(self, text: str) -> bytes:
        """The bytes behind a token's characters; a character that stands for none gives UTF-8."""
        if self._pre.raw_utf8:
            return text_bytes(text if self._pre.keeps_spaces else text.replace(SPACE_MARK, " "))
        try:
            return bytes([_BYTE_OF_CHAR[char] for char in text])
        except KeyError:
            table = _BYTE_OF_CHAR
            return b"".join(bytes([table[c]]) if c in table else text_bytes(c) for c in text)

    def _split(self, text: str) -> Iterable[str]:
        if not self._lines:
            return self._pre.split(text)
        lines = self._pre.split(text.replace(" ", SPACE_MARK))
        if len(text) < LONG_TEXT:
            return lines
        return [word for line in lines for word in cut_before(SPACE_MARK, line, self._joined)]

    @cached_property
    def _merger(self) -> "Merger | None":
        from jitllm.llm.tokenizer.compiled import merger

        ids = {text_bytes(text): token for text, token in self.vocabulary.ids.items()}
        if not self._has_merges:
            return merger(ids, range(len(self.vocabulary)))
        merges = read_strings(self.metadata, _MERGES)
        return merger(ids, merges=[text_bytes(merge) for merge in merges])

    def _encode_huge(self, text: str, merge: "Merger") -> list[int]:
        """The same as word by word."""
        words = list(self._split(text))
        data = np.frombuffer("".join(words).encode(), np.uint8)
        counts = map(len, words) if len(data) == len(text) else (len(w.encode()) for w in words)
        ends = np.cumsum(np.fromiter(counts, np.int64, len(words)))
        is_whole = self._pre.ignore_merges
        whole = np.full(len(words), is_whole)
        if self._lines and not is_whole:
            whole[:] = [not word.strip("\n") for word in words]
        ids = self.vocabulary.ids
        if self._pre.raw_utf8:
            table = np.array([ids.get(byte_token(byte), -1) for byte in range(256)], np.int32)
            out = merge(data, ends, table[data], whole)
        else:
            out = merge(*_as_chars(data, ends, ids), whole)
        found: list[int] = out[out >= 0].tolist()
        return found

    def _encode_word(self, word: str) -> list[int]:
        ids = self.vocabulary.ids
        raw = self._pre.raw_utf8
        if not raw:
            word = "".join(map(_CHAR_OF_BYTE.__getitem__, word.encode()))
        if (self._pre.ignore_merges or (self._lines and not word.strip("\n"))) and word in ids:
            return [ids[word]]
        out = []
        for symbol in merge_symbols(list(word), self._rank):
            token = ids.get(symbol)
            out += self._parts(symbol) if token is None else [token]
        return out

    def _parts(self, symbol: str) -> list[int]:
        # what the merges make need not be a token; characters without a token are left out
        if self._pre.raw_utf8:
            texts: Iterable[str] = map(byte_token, symbol.encode())
        else:
            texts = symbol
        ids = self.vocabulary.ids
        return [ids[text] for text in texts if text in ids]

    def _rank(self, left: str, right: str) -> float | None:
        if self._has_merges:
            return self._ranks.get(f"{left} {right}")
        return self.vocabulary.ids.get(left + right)  # tiktoken: a pair ranks by what it makes

    @cached_property
    def _ranks(self) -> dict[str, int]:
        merges = read_strings(self.metadata, _MERGES)
        merges.reverse()  # of two equal merges the first counts
        return dict(zip(merges, range(len(merges) - 1, -1, -1), strict=True))

    @cached_property
    def _joined(self) -> frozenset[str]:
        return chars_joined_to(f" {SPACE_MARK}", self._ranks)
