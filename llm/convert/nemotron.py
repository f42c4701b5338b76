"""Nemotron 3 and 4, Minitron: "nemotron". Source: transformers, `NemotronForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "nemotron"
CLASSES = ("NemotronForCausalLM",)
DEFAULTS = {
    "rope_theta": 10000.0, "max_position_embeddings": 4096, "norm_eps": 1e-5,
    "partial_rotary_factor": 0.5,
}  # fmt: skip
_PAD, _UNKNOWN = 0, 1


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    width, n_heads = config.size("hidden_size"), config.size("num_attention_heads")
    config.complete({"num_key_value_heads": n_heads, "head_dim": decoder.head_dim(config)})
    config.complete({"layer_norm_eps": config.need("norm_eps")})
    decoder.keys(config, target)
    rope = decoder.rope_parameters(config)
    share, factor = rope["partial_rotary_factor"], config.get("factor") or rope.get("factor")
    target.key("uint32", "rope.dimension_count", int(share * width) // n_heads)
    target.key("string", "rope.scaling.type", "linear" if factor else "none")
    target.key("float32", "rope.scaling.factor", factor)
    target.key("uint32", "vocab_size", config.size("vocab_size"))
    for name, weight in source.weights():
        if name.endswith("norm.weight"):
            weight = weight.computed(lambda w: w + 1)  # there, 1 is added when the norm is used
        target.tensor(decoder.NAMES(name), weight)
    vocabulary.sentencepiece_or_gpt2(source, target)
    target.key("uint32", "tokenizer.ggml.padding_token_id", _PAD)
    target.key("uint32", "tokenizer.ggml.unknown_token_id", _UNKNOWN)
