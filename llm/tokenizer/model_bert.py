"""`bert`: WordPiece, which covers each word by the longest tokens from left to right."""

import re
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from jitllm.llm.tokenizer.base import SPACE_MARK, BaseEncoder, Frame, Rules, text_bytes
from jitllm.llm.tokenizer.characters import WordTable
from jitllm.llm.tokenizer.matching import PieceLengths
from jitllm.llm.tokenizer.merging import HUGE_TEXT
from jitllm.llm.tokenizer.vocabulary import Metadata, Vocabulary, read_flag

if TYPE_CHECKING:
    from jitllm.llm.tokenizer.compiled import Longest

_SURROGATE = re.compile("[\ud800-\udfff]")
_CACHED_WORDS = 1 << 16
_LOWERCASE = "tokenizer.ggml.normalizer.lowercase"
_STRIP_ACCENTS = "tokenizer.ggml.normalizer.strip_accents"


class Encoder(BaseEncoder):
    """Cuts a text into words, then words into tokens; a word that does not come out is unknown.

    Tokens that begin a word have a space mark before them, unlike those that go on.
    Wu et al. 2016, "Google's Neural Machine Translation System", section 4.1.
    """

    rules = Rules(
        bos=101,
        unk=100,
        sep=102,
        pad=0,
        mask=103,
        add_sep=True,
        clean_spaces=True,
        force_bos=True,
        force_sep=True,
    )

    def __init__(self, vocabulary: Vocabulary, metadata: Metadata) -> None:
        super().__init__(vocabulary, metadata)
        lowercase = read_flag(metadata, _LOWERCASE, True)
        strip_accents = read_flag(metadata, _STRIP_ACCENTS, lowercase)
        self._table = WordTable(lowercase=lowercase, strip_accents=strip_accents, bert=True)
        self._lengths = PieceLengths(vocabulary.ids)
        self._words: dict[str, list[int]] = {"": []}

    def encode(self, text: str, at_start: bool) -> list[int]:
        """Ids of a text; where it stands makes no difference."""
        if len(text) in HUGE_TEXT and self._longest:
            return self._encode_huge(text, self._longest)
        ids: list[int] = []
        cached = self._words
        for word in text.translate(self._table).split(" "):
            found = cached.get(word)
            if found is None:
                if len(cached) >= _CACHED_WORDS:
                    cached.clear()
                found = cached[word] = self._encode_word(SPACE_MARK + word) if word else []
            ids += found
        return ids

    def normal_bytes(self, text: str) -> bytes:
        """The text with its space marks turned into spaces."""
        return text_bytes(text.replace(SPACE_MARK, " "))

    def newline_id(self) -> int | None:
        """None: a newline is white space."""
        return None

    def frame(self, ids: list[int], frame: Frame) -> list[int]:
        """Put beginning and separator around a text, which has no other end."""
        return super().frame(ids, Frame(frame.bos, frame.sep, None))

    @cached_property
    def _longest(self) -> "Longest | None":
        from jitllm.llm.tokenizer.compiled import longest

        # a token that is no text fits none
        ids = {
            text_bytes(text): token
            for text, token in self.vocabulary.ids.items()
            if text.isascii() or not _SURROGATE.search(text)
        }
        return longest(ids, whole=True)

    def _encode_huge(self, text: str, longest: "Longest") -> list[int]:
        """The same as word by word."""
        words = [SPACE_MARK + word for word in text.translate(self._table).split(" ") if word]
        counts = (len(word.encode()) for word in words)
        ends = np.cumsum(np.fromiter(counts, np.int64, len(words)))
        return self.known_ids(longest("".join(words).encode(), ends))

    def _encode_word(self, word: str) -> list[int]:
        token_ids, lengths, head = self.vocabulary.ids, self._lengths, self._lengths.head
        ids = []
        start = 0
        while start < len(word):
            for length in lengths[word[start : start + head]]:
                token = token_ids.get(word[start : start + length])
                if token is not None:
                    ids.append(token)
                    start += length
                    break
            else:
                return [self.unknown_id]
        return ids
