"""Phi 3 and 4: "phi3". Source: transformers, `Phi3ForCausalLM`."""

import math

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Config, Source
from jitllm.llm.convert._target import Target
from jitllm.llm.errors import ModelFormatError

ARCHITECTURE = "phi3"
CLASSES = ("Phi3ForCausalLM",)
DEFAULTS = {
    "rope_theta": 10000.0, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
    "original_max_position_embeddings": 4096,
}  # fmt: skip
_NAMES = decoder.Names(
    decoder.LAYER | {"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"}
)


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    _keys(source.config, target)
    _rope(source.config, target)
    decoder.tensors(target, source.weights(), _NAMES)
    if source.json("tokenizer_config.json").get("tokenizer_class") == "GPT2Tokenizer":
        vocabulary.gpt2(source, target)
    elif not vocabulary.sentencepiece(source, target, by_looks=False):
        vocabulary.llama(source, target)


def _keys(config: Config, target: Target) -> None:
    config.complete({"num_key_value_heads": config.size("num_attention_heads")})
    decoder.sizes(config, target)
    rope = decoder.rope_parameters(config)
    target.key("float32", "rope.freq_base", rope["rope_theta"])
    target.key("uint32", "rope.dimension_count", _rotary_dim(config))
    # 0 tells Phi 4 from others
    target.key("uint32", "attention.sliding_window", config.get("sliding_window") or 0)


def _rotary_dim(config: Config) -> int:
    share = decoder.rope_parameters(config).get("partial_rotary_factor", 1.0)
    return int(share * config.size("hidden_size")) // config.size("num_attention_heads")


def _rope(config: Config, target: Target) -> None:
    """Put down what stretches the context: divisors of frequencies, for short and long texts."""
    rope = decoder.rope_parameters(config)
    original = rope["original_max_position_embeddings"]
    target.key("uint32", "rope.scaling.original_context_length", original)
    long, short = rope.get("long_factor"), rope.get("short_factor")
    if not long:
        return
    size = _rotary_dim(config) // 2
    if not short or len(long) != size or len(short) != size:
        raise ModelFormatError(
            f"{config.path}: expected short_factor and long_factor of {size} numbers each"
        )
    stretch = config.size("max_position_embeddings") / original
    factor = math.sqrt(1 + math.log(stretch) / math.log(original)) if stretch > 1 else 1.0
    target.key("float32", "rope.scaling.attn_factor", factor)
    target.tensor("rope_factors_long.weight", decoder.divisors_of(config, long))
    target.tensor("rope_factors_short.weight", decoder.divisors_of(config, short))
