"""`llama`: SentencePiece's BPE, which joins the pair whose token has the highest score."""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from jitllm.llm.tokenizer.base import SPACE_MARK, BaseEncoder, Rules, byte_token, text_bytes
from jitllm.llm.tokenizer.merging import (
    HUGE_TEXT,
    LONG_TEXT,
    chars_joined_to,
    cut_before,
    merge_symbols,
)
from jitllm.llm.tokenizer.vocabulary import Metadata, Vocabulary, read_flag

if TYPE_CHECKING:
    from jitllm.llm.tokenizer.compiled import Merger

_CACHED_WORDS = 1 << 16


class Encoder(BaseEncoder):
    """Joins characters by token score; what is no token falls back to byte tokens.

    Kudo, Richardson 2018, "SentencePiece: A simple and language independent subword tokenizer".
    """

    rules = Rules(bos=1, eos=2, unk=0, add_bos=True, add_space_prefix=True)

    def __init__(self, vocabulary: Vocabulary, metadata: Metadata) -> None:
        super().__init__(vocabulary, metadata)
        self._prefix = read_flag(metadata, "tokenizer.ggml.add_space_prefix", True)
        self._costs: list[float] = (-vocabulary.scores).tolist()
        self._words: dict[str, list[int]] = {}

    def encode(self, text: str, at_start: bool) -> list[int]:
        """Ids of a text; a text at the start gets a space before it if the file says so."""
        if at_start and self._prefix:
            text = " " + text
        text = text.replace(" ", SPACE_MARK)
        if len(text) < LONG_TEXT:
            return self._encode_word(text)
        if len(text) in HUGE_TEXT and self._merger:
            return self._encode_huge(text, self._merger)
        ids = []
        words = self._words
        for word in cut_before(SPACE_MARK, text, self._joined):
            found = words.get(word)
            if found is None:
                if len(words) >= _CACHED_WORDS:
                    words.clear()
                found = words[word] = self._encode_word(word)
            ids += found
        return ids

    def normal_bytes(self, text: str) -> bytes:
        """The text with its space marks turned into spaces."""
        return text_bytes(text.replace(SPACE_MARK, " "))

    def newline_id(self) -> int | None:
        """The token of the byte, even where a newline has a token of its own."""
        return self._byte_id(ord("\n"))

    @cached_property
    def _joined(self) -> frozenset[str]:
        return chars_joined_to(SPACE_MARK, self.vocabulary.tokens)

    def _encode_word(self, word: str) -> list[int]:
        token_ids = self.vocabulary.ids
        ids = []
        for symbol in merge_symbols(list(word), self._rank):
            token = token_ids.get(symbol)
            if token is None:
                ids += [self._byte_id(byte) for byte in symbol.encode()]
            else:
                ids.append(token)
        return ids

    @cached_property
    def _merger(self) -> "Merger | None":
        from jitllm.llm.tokenizer.compiled import merger

        ids = {text_bytes(text): token for text, token in self.vocabulary.ids.items()}
        return merger(ids, self._costs)

    def _encode_huge(self, text: str, merge: "Merger") -> list[int]:
        """The same as `_encode_word`."""
        data = np.frombuffer(text.encode(), np.uint8)
        known = {byte: self._token_of(byte) for byte in range(256)}
        spare = np.array([-1 if t is None else t for t in known.values()], np.int32)[data]
        ids = merge(data, np.array([len(data)]), spare)
        return self.known_ids(ids)

    def _rank(self, left: str, right: str) -> float | None:
        token = self.vocabulary.ids.get(left + right)
        return None if token is None else self._costs[token]

    def _byte_id(self, byte: int) -> int:
        token = self._token_of(byte)
        return self.unknown_id if token is None else token

    def _token_of(self, byte: int) -> int | None:
        ids = self.vocabulary.ids
        return ids.get(byte_token(byte), ids.get(chr(byte)) if byte < 128 else None)
