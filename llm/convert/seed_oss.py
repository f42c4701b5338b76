"""Seed OSS: "seed_oss". Source: transformers, `SeedOssForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "seed_oss"
CLASSES = ("SeedOssForCausalLM",)
DEFAULTS = {
    "rope_theta": 10000.0, "max_position_embeddings": 524288, "rms_norm_eps": 1e-6,
    "num_key_value_heads": 8, "head_dim": 128,
}  # fmt: skip
_NAMES = decoder.Names(decoder.LAYER | {"post_attention_layernorm": "post_attention_norm"})


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    decoder.keys(source.config, target)
    decoder.tensors(target, source.weights(), _NAMES)
    vocabulary.gpt2(source, target)
