"""XLM-RoBERTa, such as BGE M3: "bert". Source: transformers, `XLMRobertaModel`."""

from jitllm.llm.convert import _sentencepiece as sentencepiece
from jitllm.llm.convert import _special as special
from jitllm.llm.convert import _tokens as tokens
from jitllm.llm.convert import roberta
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target
from jitllm.llm.errors import UnsupportedTokenizer

ARCHITECTURE = "bert"
CLASSES = ("XLMRobertaModel", "XLMRobertaForSequenceClassification")
DEFAULTS = roberta.DEFAULTS
_FILE = "sentencepiece.bpe.model"
_UNIGRAM = 1
_FIRST = (
    ("<s>", tokens.CONTROL), ("<pad>", tokens.CONTROL), ("</s>", tokens.CONTROL),
    ("<unk>", tokens.UNKNOWN),
)  # fmt: skip
_UNUSED_SCORE = -10000.0


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    roberta.body(source, target)
    _vocabulary(source, target)


def _vocabulary(source: Source, target: Target) -> None:
    """Put down the pieces, in the order in which transformers has them.

    Raises
    ------
    UnsupportedTokenizer
        If the file of pieces is not there, or none of a unigram model.
    """
    path = source.folder / _FILE
    model = sentencepiece.read_model(path) if path.is_file() else None
    if model is None or model.kind != _UNIGRAM:
        raise UnsupportedTokenizer(
            f"expected {path} with a unigram model, got {'another kind' if model else 'none'}"
        )
    size = max(source.config.get("vocab_size") or 0, len(model.pieces))
    known = tokens.Tokens()
    for text, kind in _FIRST:
        known.add(text, kind)
    for text, score, kind in model.pieces[3 : size - 1]:
        known.add(text, sentencepiece.KINDS.get(kind, tokens.NORMAL), score)
    for i in range(len(model.pieces), size - 1):
        known.add(f"[PAD{i}]", tokens.UNUSED, _UNUSED_SCORE)
    known.write(target, "t5", "default", scores=True)
    target.key("uint32", "tokenizer.ggml.token_type_count", source.config.size("type_vocab_size"))
    target.key("bool", "tokenizer.ggml.add_space_prefix", model.adds_prefix)
    target.key("bool", "tokenizer.ggml.remove_extra_whitespaces", model.removes_spaces)
    target.key("uint8", "tokenizer.ggml.precompiled_charsmap", list(model.characters))
    special.write(source, target, n_vocab=len(known.texts))
