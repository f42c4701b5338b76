"""`t5`: SentencePiece's unigram model, the cover by tokens with the highest sum of scores."""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jitllm.llm.errors import ModelFormatError
from jitllm.llm.tokenizer.base import SPACE_MARK, BaseEncoder, Rules, text_bytes
from jitllm.llm.tokenizer.charsmap import Charsmap
from jitllm.llm.tokenizer.matching import PieceLengths
from jitllm.llm.tokenizer.merging import HUGE_TEXT, chars_joined_to, cut_before
from jitllm.llm.tokenizer.vocabulary import Metadata, TokenType, Vocabulary, read_flag

if TYPE_CHECKING:
    from jitllm.llm.tokenizer.compiled import Cover

_CACHED_WORDS = 1 << 16
_CHARSMAP = "tokenizer.ggml.precompiled_charsmap"
_UNKNOWN_PENALTY = np.float32(10)
_EXACT_BITS = 53  # of a float64
_MARK = SPACE_MARK.encode().decode("latin-1")
_CHAR_BYTES = (*[1] * 12, 2, 2, 3, 4)  # by the high four bits of the first byte


class Encoder(BaseEncoder):
    """Normalizes a text, then finds the best cover from left to right.

    Scores are added as float64. Of equal covers the one that had its last token begin first is
    taken; unknown characters side by side are one token. Kudo 2018, "Subword Regularization:
    Improving Neural Network Translation Models with Multiple Subword Candidates".

    Texts inside have one character for each byte (Latin-1): damaged UTF-8 can come up within.

    Raises
    ------
    ModelFormatError
        If the map of the normalizer is damaged.
    """

    rules = Rules(eos=1, unk=2, pad=0, add_eos=True)

    def __init__(self, vocabulary: Vocabulary, metadata: Metadata) -> None:
        super().__init__(vocabulary, metadata)
        self._types = vocabulary.types.copy()  # before types are corrected
        self._prefix = read_flag(metadata, "tokenizer.ggml.add_space_prefix", False)
        self._merges_spaces = read_flag(metadata, "tokenizer.ggml.remove_extra_whitespaces", False)
        self._charsmap = Charsmap(_read_charsmap(metadata), self._kept())
        self._normal_words: dict[str, str] = {}
        self._words: dict[str, list[int]] = {}

    def encode(self, text: str, at_start: bool) -> list[int]:
        """Ids of a text; one that goes on where other text ended gets no space before it."""
        normal = self._normalized(text.encode().decode("latin-1"), at_start)
        if len(normal) in HUGE_TEXT and self._cover:
            return self._cover_huge(normal, self._cover)
        if len(normal) > self._exact_length:
            return self._joined_unknown(self._best_cover(normal))
        ids: list[int] = []
        cached = self._words
        for word in cut_before(_MARK, normal, self._joined):
            found = cached.get(word)
            if found is None:
                if len(cached) >= _CACHED_WORDS:
                    cached.clear()
                found = cached[word] = self._best_cover(word)
            ids += found
        return self._joined_unknown(ids)

    def normal_bytes(self, text: str) -> bytes:
        """The text with its space marks turned into spaces."""
        return text_bytes(text.replace(SPACE_MARK, " "))

    def newline_id(self) -> int | None:
        """The first id of a newline at the start; None where it is normalized away."""
        return next(iter(self.encode("\n", True)), None)

    def _kept(self) -> frozenset[str]:
        """All beginnings of user-defined tokens, whose text is not normalized."""
        users = np.flatnonzero(self._types == TokenType.USER_DEFINED).tolist()
        texts = [self._latin(token) for token in users]
        return frozenset(text[:n] for text in texts for n in range(1, len(text) + 1))

    def _latin(self, token: int) -> str:
        return text_bytes(self.vocabulary.tokens[token]).decode("latin-1")

    def _normalized(self, text: str, at_start: bool) -> str:
        text = self._mapped(text)
        if self._merges_spaces:
            words = [word for word in text.split(" ") if word]
            out = "".join([_MARK + word for word in words])
            if not at_start and not text.startswith(" "):
                out = out.removeprefix(_MARK)
        else:
            out = text.replace(" ", _MARK)
            n_before = len(text) - len(text.lstrip(" "))
            if self._prefix and at_start and n_before < len(text):
                out = _MARK * n_before + _MARK + out[n_before * len(_MARK) :]
        return out

    def _mapped(self, text: str) -> str:
        if not self._charsmap.splits_at_spaces:
            return self._charsmap.apply(text)
        cached = self._normal_words
        out = []
        for word in text.split(" "):
            found = cached.get(word)
            if found is None:
                if len(cached) >= _CACHED_WORDS:
                    cached.clear()
                found = cached[word] = self._charsmap.apply(word)
            out.append(found)
        return self._charsmap.apply(" ").join(out)

    @cached_property
    def _pieces(self) -> dict[str, tuple[float, int]]:
        """Score and id of each token that may be part of a cover."""
        kinds = [TokenType.NORMAL, TokenType.USER_DEFINED, TokenType.UNUSED]
        usable = np.flatnonzero(np.isin(self._types, [int(kind) for kind in kinds])).tolist()
        scores = np.where(self._types == TokenType.USER_DEFINED, 0, self.vocabulary.scores)
        values: list[float] = scores.astype(np.float64).tolist()
        return {self._latin(token): (values[token], token) for token in usable}

    @cached_property
    def _lengths(self) -> PieceLengths:
        return PieceLengths(self._pieces)

    @cached_property
    def _joined(self) -> frozenset[str]:
        return chars_joined_to(_MARK, self._pieces)

    @cached_property
    def _unknown_score(self) -> float:
        normal = self.vocabulary.scores[self._types == TokenType.NORMAL]
        least = normal.min() if len(normal) else np.finfo(np.float32).max
        return float(np.float32(least) - _UNKNOWN_PENALTY)

    @cached_property
    def _exact_length(self) -> int:
        """Longest text whose sums of scores cannot round, so that words can be taken alone."""
        scores = np.array([self._unknown_score, *(score for score, _ in self._pieces.values())])
        if not np.all(np.isfinite(scores)):
            return 0
        # a best sum is at worst one of single characters; one more token may be tried on top
        single = [abs(score) for text, (score, _) in self._pieces.items() if len(text) <= 4]
        steepest = max(abs(self._unknown_score), scores.max(), *single)
        room = 2.0 ** (_EXACT_BITS - _fraction_bits(scores)) - np.abs(scores).max()
        return max(0, int(room / steepest))

    def _best_cover(self, text: str) -> list[int]:
        pieces, lengths, head = self._pieces, self._lengths, self._lengths.head
        unknown, unknown_score = self.unknown_id, self._unknown_score
        n = len(text)
        # a slice at the end may be shorter than its length says: what that writes is never read
        n_places = n + 1 + lengths.longest
        scores = [float("-inf")] * n_places
        steps: list[tuple[int, int]] = [(0, unknown)] * n_places  # where the last token begins, id
        scores[0] = 0.0
        start = 0
        while start < n:
            n_bytes = min(_CHAR_BYTES[ord(text[start]) >> 4], n - start)
            before = scores[start]
            is_alone = False
            for length in lengths[text[start : start + head]]:
                piece = pieces.get(text[start : start + length])
                if piece is None:
                    continue
                is_alone = is_alone or length == n_bytes
                score, token = piece
                score += before
                if score > scores[start + length]:
                    scores[start + length] = score
                    steps[start + length] = start, token
            end = start + n_bytes
            if not is_alone and before + unknown_score > scores[end]:
                scores[end] = before + unknown_score
                steps[end] = start, unknown
            start = end
        return _read_back(steps, n)

    @cached_property
    def _cover(self) -> "Cover | None":
        from jitllm.llm.tokenizer.compiled import cover

        pieces = {text.encode("latin-1"): piece for text, piece in self._pieces.items()}
        return cover(pieces, self.unknown_id, self._unknown_score)

    def _cover_huge(self, text: str, cover: "Cover") -> list[int]:
        """The same for a huge text."""
        ids = cover(text.encode("latin-1"))
        again = np.zeros(len(ids), np.bool_)
        again[1:] = (ids[1:] == self.unknown_id) & (ids[:-1] == self.unknown_id)
        whole: list[int] = ids[~again].tolist()
        return whole

    def _joined_unknown(self, ids: list[int]) -> list[int]:
        unknown = self.unknown_id
        if unknown not in ids:
            return ids
        pairs = zip([-1, *ids], ids, strict=False)
        return [token for before, token in pairs if token != unknown or before != unknown]


def _fraction_bits(values: NDArray[np.float64]) -> int:
    """Bits behind the point that numbers of float32 precision need."""
    mantissas, exponents = np.frexp(values[values != 0])
    whole = np.ldexp(mantissas, 24).astype(np.int64)
    unused = np.log2(whole & -whole)
    return int(np.max(24 - exponents - unused, initial=0))


def _read_back(steps: list[tuple[int, int]], end: int) -> list[int]:
    ids = []
    while end:
        end, token = steps[end]
        ids.append(token)
    ids.reverse()
    return ids


def _read_charsmap(metadata: Metadata) -> bytes:
    value = metadata.get(_CHARSMAP)
    if value is None:
        return b""
    data = np.asarray(value)
    if data.ndim != 1 or data.dtype.kind not in "iu" or data.dtype.itemsize != 1:
        raise ModelFormatError(f"{_CHARSMAP}: expected an array of bytes, got {data.dtype}")
    return data.tobytes()
