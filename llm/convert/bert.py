"""BERT: "bert". Source: transformers, `BertModel` and `BertForSequenceClassification`."""

from collections.abc import Iterator

from jitllm.llm.convert import _bpe as bpe
from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _pooling as pooling
from jitllm.llm.convert import _special as special
from jitllm.llm.convert import _tokens as tokens
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target
from jitllm.llm.convert._weights import Weight

ARCHITECTURE = "bert"
CLASSES = ("BertModel", "BertForMaskedLM", "BertForSequenceClassification")
DEFAULTS = {"layer_norm_eps": 1e-12, "max_position_embeddings": 512, "type_vocab_size": 2}
WHOLE = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.LayerNorm": "token_embd_norm",
    "classifier": "cls.output",
}
LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_NAMES = decoder.Names(LAYER, WHOLE, "encoder.layer.")
# of training alone, and what llama.cpp's encoders do without
_UNUSED = ("embeddings.position_ids", "pooler.", "cls.predictions", "cls.seq_relationship")
_NO_LABELS = {"0": "LABEL_0", "1": "LABEL_1"}  # what is written where there are none


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    keys(source, target)
    decoder.tensors(target, weights(source, "bert."), _NAMES)
    write_vocabulary(source, target)


def keys(source: Source, target: Target) -> None:
    """Put down sizes, the kind of pooling, and the labels of a classifier."""
    decoder.keys(source.config, target)
    target.key("bool", "attention.causal", False)
    pooling.write(source, target)
    labels = source.config.get("id2label")
    if labels and labels != _NO_LABELS:
        texts = [labels[i] for i in sorted(labels, key=int)]
        target.key("string", "classifier.output_labels", texts)


def weights(source: Source, prefix: str) -> Iterator[tuple[str, Weight]]:
    """Yield the weights that are used, with names without a prefix that some models have."""
    for name, weight in source.weights():
        name = name.removeprefix(prefix).replace(".gamma", ".weight").replace(".beta", ".bias")
        if not name.startswith(_UNUSED):
            yield name, weight


def write_vocabulary(source: Source, target: Target) -> None:
    """Put down a vocabulary of word pieces: the pieces that begin a word are marked, not others."""
    target.key("uint32", "tokenizer.ggml.token_type_count", source.config.size("type_vocab_size"))
    tokenizer = bpe.open_tokenizer(source)
    known = bpe.listed(source, tokenizer)
    for i, (text, kind) in enumerate(zip(known.texts, known.kinds, strict=True)):
        if kind != tokens.CONTROL:
            known.texts[i] = text[2:] if text.startswith("##") else f"▁{text}"
    known.write(target, "bert", bpe.pre_name(source, tokenizer), scores=False)
    special.write(source, target, n_vocab=len(known.texts))
