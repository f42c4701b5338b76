"""Qwen 1.5 and 2, mixtures of experts: "qwen2moe". Source: transformers, `Qwen2MoeForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _experts as experts
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "qwen2moe"
CLASSES = ("Qwen2MoeForCausalLM",)
DEFAULTS = {
    "rope_theta": 10000.0, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
    "num_key_value_heads": 16, "num_experts": 60, "num_experts_per_tok": 4,
    "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632,
}  # fmt: skip
_NAMES = decoder.Names(decoder.LAYER | experts.LAYER | experts.SHARED)


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    decoder.keys(config, target)
    target.key("uint32", "expert_feed_forward_length", config.size("moe_intermediate_size"))
    shared = config.size("shared_expert_intermediate_size")
    target.key("uint32", "expert_shared_feed_forward_length", shared)
    weights = experts.apart(source.weights())
    decoder.tensors(target, experts.merged(weights, config.size("num_experts")), _NAMES)
    vocabulary.gpt2(source, target)
