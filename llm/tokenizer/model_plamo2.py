"""`plamo2`: the cover by tokens with the highest sum of scores, over characters."""

from functools import cached_property

import numpy as np

from jitllm.llm.errors import ModelFormatError
from jitllm.llm.tokenizer.base import BaseEncoder, Rules, byte_token, text_bytes
from jitllm.llm.tokenizer.cutting import Cutter
from jitllm.llm.tokenizer.matching import PieceLengths
from jitllm.llm.tokenizer.vocabulary import Metadata, TokenType, Vocabulary

_BYTE_ORDER_MARK = "\ufeff"
_CACHED_WORDS = 1 << 16
_SCALE = 10_000  # scores are rounded to integers, so that sums have no order
_UNKNOWN_COST = 10_000_000
_WORST_COST = 20_000_000
_NEVER = 1 << 60


class Encoder(BaseEncoder):
    """Finds the best cover from the end to the beginning; other characters become byte tokens.

    Of equal covers the one whose first token is longest is taken. Viterbi 1967, "Error bounds for
    convolutional codes and an asymptotically optimum decoding algorithm"; Kudo 2018, "Subword
    Regularization".

    Raises
    ------
    ModelFormatError
        If the file lacks a token for a byte.
    """

    rules = Rules(bos=1, eos=2, unk=0, pad=3, framed=False)

    def __init__(self, vocabulary: Vocabulary, metadata: Metadata) -> None:
        super().__init__(vocabulary, metadata)
        self._is_byte = vocabulary.types == TokenType.BYTE  # before types are corrected
        self._byte_ids = [vocabulary.ids.get(byte_token(byte), 0) for byte in range(256)]
        for byte, token in enumerate(self._byte_ids):
            if not token or not self._is_byte[token]:
                raise ModelFormatError(
                    f"expected a token {byte_token(byte)} of type byte, got none; "
                    "convert the model again"
                )
        self._words: dict[str, list[int]] = {}

    def encode(self, text: str, at_start: bool) -> list[int]:
        """Ids of a text; where it stands makes no difference, but a first U+FEFF is dropped."""
        ids: list[int] = []
        cached = self._words
        for word in self._cutter.cut(text.removeprefix(_BYTE_ORDER_MARK)):
            found = cached.get(word)
            if found is None:
                if len(cached) >= _CACHED_WORDS:
                    cached.clear()
                found = cached[word] = self._best_cover(word)
            ids += found
        return ids

    def normal_bytes(self, text: str) -> bytes:
        """The text as it is."""
        return text_bytes(text)

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for; only tokens of bytes are more than their text."""
        if self.vocabulary.types[token] == TokenType.BYTE:
            return super().token_bytes(token)
        return text_bytes(self.vocabulary.tokens[token])

    @cached_property
    def _pieces(self) -> dict[str, tuple[int, int]]:
        """Cost and id of each token that may be part of a cover."""
        scores = self.vocabulary.scores.astype(np.float64) * _SCALE
        finite = np.isfinite(scores)
        # away from zero at a half, unlike numpy's own
        rounded = np.copysign(np.floor(np.abs(np.where(finite, scores, 0)) + 0.5), scores)
        usable = finite & (rounded > -_WORST_COST) & ~self._is_byte
        costs = (-rounded).astype(np.int64).tolist()
        tokens = self.vocabulary.tokens
        return {tokens[i]: (costs[i], i) for i in np.flatnonzero(usable).tolist()}

    @cached_property
    def _lengths(self) -> PieceLengths:
        return PieceLengths(self._pieces)

    @cached_property
    def _cutter(self) -> Cutter:
        return Cutter(self._pieces)

    def _best_cover(self, text: str) -> list[int]:
        pieces, lengths, head = self._pieces, self._lengths, self._lengths.head
        n = len(text)
        # a slice at the end may be shorter than its length says: that must not count
        costs = [0] * (n + 1) + [_NEVER] * lengths.longest
        steps: list[tuple[int, int]] = [(0, 0)] * n  # length and id of the token at each place
        for start in range(n - 1, -1, -1):
            best = costs[start + 1] + _UNKNOWN_COST
            step = (1, -1)
            # the unknown token comes last of equals, so it is beaten by equals
            for length in reversed(lengths[text[start : start + head]]):
                piece = pieces.get(text[start : start + length])
                if piece is not None:
                    cost = costs[start + length] + piece[0]
                    if cost <= best:
                        best, step = cost, (length, piece[1])
            costs[start] = best
            steps[start] = step
        return self._read(text, steps)

    def _read(self, text: str, steps: list[tuple[int, int]]) -> list[int]:
        ids: list[int] = []
        start = 0
        while start < len(text):
            length, token = steps[start]
            if token < 0:
                ids += [self._byte_ids[byte] for byte in text[start].encode()]
            else:
                ids.append(token)
            start += length
        return ids
