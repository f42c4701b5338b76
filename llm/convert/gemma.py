"""Gemma 1: "gemma". Source: transformers, `GemmaForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "gemma"
CLASSES = ("GemmaForCausalLM",)
DEFAULTS = {
    "max_position_embeddings": 8192, "num_key_value_heads": 16, "head_dim": 256,
    "rms_norm_eps": 1e-6,
}  # fmt: skip
_END_OF_TURN = 107


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    decoder.sizes(source.config, target)
    tensors(source, target, decoder.NAMES)
    write_vocabulary(source, target)
    target.key("uint32", "tokenizer.ggml.eot_token_id", _END_OF_TURN)


def write_vocabulary(source: Source, target: Target) -> None:
    """Put down a vocabulary that does not begin texts with a space."""
    vocabulary.sentencepiece_or_gpt2(source, target)
    target.key("bool", "tokenizer.ggml.add_space_prefix", False)


def tensors(source: Source, target: Target, names: decoder.Names) -> None:
    """Put down the tensors of a Gemma; the head is the embedding."""
    for name, weight in source.weights():
        if name.endswith("norm.weight"):
            weight = weight.computed(lambda w: w + 1)  # there, 1 is added when the norm is used
        if name != "lm_head.weight":
            target.tensor(names(name), weight)
