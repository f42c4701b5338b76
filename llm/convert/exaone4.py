"""EXAONE 4: "exaone4". Source: transformers, `Exaone4ForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert import _windows as windows
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "exaone4"
CLASSES = ("Exaone4ForCausalLM",)
DEFAULTS = {
    "rope_theta": 10000.0, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5,
    "sliding_window_pattern": 4,
}  # fmt: skip
_NAMES = decoder.Names(
    decoder.LAYER
    | {
        "post_attention_layernorm": "post_attention_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    }
)


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    config.complete({"num_key_value_heads": config.size("num_attention_heads")})
    decoder.keys(config, target)
    target.key("uint32", "vocab_size", config.size("vocab_size"))
    windows.write(config, target)
    factors = decoder.llama3_factors(config)
    if factors is not None:
        target.tensor("rope_freqs.weight", factors)
    decoder.tensors(target, source.weights(), _NAMES)
    vocabulary.gpt2(source, target)
