"""OLMo 1 and 1.7: "olmo". Source: transformers, `OlmoForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert import llama
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "olmo"
CLASSES = ("OlmoForCausalLM",)
DEFAULTS = {"rope_theta": 10000.0, "max_position_embeddings": 2048}
_EPS = 1e-5  # of norms without weights


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    config.complete({"num_key_value_heads": config.size("num_attention_heads")})
    decoder.keys(config, target)
    target.key("float32", "attention.layer_norm_epsilon", _EPS)
    target.key("float32", "attention.clamp_kqv", config.get("clip_qkv"))
    llama.tensors(config, target, source.weights())
    vocabulary.gpt2(source, target)
