"""`gpt2`: byte-level BPE after a split by regular expressions."""

from collections.abc import Iterable
from functools import cached_property

from jitllm.llm.errors import ModelFormatError
from jitllm.llm.tokenizer.base import SPACE_MARK, BaseEncoder, Rules, byte_token, text_bytes
from jitllm.llm.tokenizer.merging import LONG_TEXT, chars_joined_to, cut_before, merge_symbols
from jitllm.llm.tokenizer.pretokenizers import pretokenizer
from jitllm.llm.tokenizer.vocabulary import Metadata, Vocabulary, read_strings

_CACHED_WORDS = 1 << 16
_MERGES = "tokenizer.ggml.merges"


def _byte_chars() -> dict[int, str]:
    # GPT-2's table: printable bytes stand for themselves, the others for characters from 256 on
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(others)}}


_CHAR_OF_BYTE = _byte_chars()
_BYTE_OF_CHAR = {char: byte for byte, char in _CHAR_OF_BYTE.items()}


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
