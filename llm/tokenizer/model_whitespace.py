"""`whitespace`: BPE within words; the white space between them is dropped."""

from jitllm.llm.tokenizer import model_gpt2
from jitllm.llm.tokenizer.characters import WordTable
from jitllm.llm.tokenizer.vocabulary import Metadata, Vocabulary, read_flag


class Encoder(model_gpt2.Encoder):
    """Encodes each stretch without white space by the rules of the pre-tokenizer."""

    def __init__(self, vocabulary: Vocabulary, metadata: Metadata) -> None:
        super().__init__(vocabulary, metadata)
        default = self.variant != "whitespace"
        lowercase = read_flag(metadata, "tokenizer.ggml.normalizer.lowercase", default)
        self._table = WordTable(lowercase=lowercase, strip_accents=False, bert=False)

    def encode(self, text: str, at_start: bool) -> list[int]:
        """Ids of a text; where it stands makes no difference."""
        ids = []
        for word in text.translate(self._table).split(" "):
            if word:
                ids += super().encode(word, at_start)
        return ids
