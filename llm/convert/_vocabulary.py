"""Which vocabulary a model has: what lies in its folder decides."""

from jitllm.llm.convert import _bpe as bpe
from jitllm.llm.convert import _sentencepiece
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

_CODE_LLAMA = 32016  # these sizes of vocabulary tell families apart
_CODE_LLAMA_END = 32010
_GRANITE_CODE = 49152

gpt2 = bpe.write  # byte-level BPE of tokenizer.json
sentencepiece = _sentencepiece.write  # pieces of tokenizer.model


def sentencepiece_or_gpt2(source: Source, target: Target) -> None:
    """Put down the pieces of tokenizer.model, or byte-level BPE where there is none."""
    if not sentencepiece(source, target):
        gpt2(source, target)


def llama(source: Source, target: Target) -> None:
    """Put down one of the vocabularies that models built like Llama have."""
    prefix = source.json("tokenizer_config.json").get("add_prefix_space")
    target.key("bool", "tokenizer.ggml.add_space_prefix", prefix)
    if not (sentencepiece(source, target) or bpe.byte_fallback(source, target)):
        gpt2(source, target)
    size = source.config.get("vocab_size")
    if size == _CODE_LLAMA:
        target.key("uint32", "tokenizer.ggml.eot_token_id", _CODE_LLAMA_END)
    if size == _GRANITE_CODE:
        target.key("bool", "tokenizer.ggml.add_bos_token", False)
