"""`hybriddna`: BPE, and six letters of DNA to a token between `<dna>` and `</dna>`."""

import re

from jitllm.llm.tokenizer import model_gpt2
from jitllm.llm.tokenizer.vocabulary import Metadata, Vocabulary

_LETTERS = 6
_MARK = "\ue000"  # ends the texts of DNA tokens in the file: the same letters may be a word
_OPEN, _CLOSE, _UNKNOWN = "<dna>", "</dna>", "<oov>"
_DNA = re.compile(rf"{_OPEN}(.*?)({_CLOSE}|\Z)", re.DOTALL)


class Encoder(model_gpt2.Encoder):
    """Encodes text as BPE and DNA by sixes, the last one filled up with A."""

    def __init__(self, vocabulary: Vocabulary, metadata: Metadata) -> None:
        super().__init__(vocabulary, metadata)
        ids = vocabulary.ids
        self._has_dna = all(text in ids for text in (_OPEN, _CLOSE, _UNKNOWN))
        for i in range(ids.get(_UNKNOWN, len(ids)) + 1, len(vocabulary)):
            text = vocabulary.tokens[i]
            if len(text) > len(_MARK):
                vocabulary.tokens[i] = text.removesuffix(_MARK)

    def encode(self, text: str, at_start: bool) -> list[int]:
        """Ids of a text; where it stands makes no difference."""
        if not self._has_dna or _OPEN not in text:
            return super().encode(text, at_start)
        ids: list[int] = []
        token_ids = self.vocabulary.ids
        end = 0
        for found in _DNA.finditer(text):
            if found.start() > end:
                ids += super().encode(text[end : found.start()], at_start)
            ids.append(token_ids[_OPEN])
            ids += self._dna_ids(found[1])
            if found[2]:
                ids.append(token_ids[_CLOSE])
            end = found.end()
        return ids + super().encode(text[end:], at_start) if end < len(text) else ids

    def _dna_ids(self, letters: str) -> list[int]:
        # bytes count, not characters; those that are no letters make unknown tokens
        data = letters.encode().upper().decode("latin-1")
        data += "A" * (-len(data) % _LETTERS)
        ids, unknown = self.vocabulary.ids, self.vocabulary.ids[_UNKNOWN]
        parts = (data[i : i + _LETTERS] for i in range(0, len(data), _LETTERS))
        return [ids.get(part + _MARK, unknown) if part.isascii() else unknown for part in parts]
