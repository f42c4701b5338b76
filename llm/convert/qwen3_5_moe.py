"""Qwen 3.5, mixtures of experts: "qwen35moe". Source: transformers, `Qwen3_5MoeForCausalLM`."""

from jitllm.llm.convert import _experts as experts
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert import qwen3_5
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "qwen35moe"
CLASSES = ("Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration")
DEFAULTS = qwen3_5.DEFAULTS | {
    "num_key_value_heads": 2, "moe_intermediate_size": 512, "num_experts": 256,
    "num_experts_per_tok": 8, "shared_expert_intermediate_size": 512,
}  # fmt: skip


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    qwen3_5.keys(config, target)
    target.key("uint32", "expert_feed_forward_length", config.size("moe_intermediate_size"))
    shared = config.size("shared_expert_intermediate_size")
    target.key("uint32", "expert_shared_feed_forward_length", shared)
    weights = experts.apart(source.weights())
    n_experts = config.size("num_local_experts", "num_experts")
    qwen3_5.tensors(config, target, experts.merged(weights, n_experts))
    vocabulary.gpt2(source, target)
