"""Qwen 3.5, mixtures of experts: "qwen35moe". Source: transformers, `Qwen3_5MoeForCausalLM`."""

from collections.abc import Iterator

from jitllm.llm.convert import _experts as experts
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert import qwen3_5
from jitllm.llm.convert._source import Config, Source
from jitllm.llm.convert._target import Target
from jitllm.llm.convert._weights import Weight

ARCHITECTURE = "qwen35moe"
CLASSES = ("Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration")
DEFAULTS = qwen3_5.DEFAULTS | {
    "num_key_value_heads": 2, "moe_intermediate_size": 512, "num_experts": 256,
    "num_experts_per_tok": 8, "shared_expert_intermediate_size": 512,
}  # fmt: skip


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    keys(source.config, target)
    qwen3_5.sections(source.config, target)
    qwen3_5.tensors(source.config, target, weights(source))
    vocabulary.gpt2(source, target)


def keys(config: Config, target: Target) -> None:
    """Put down sizes and constants, those of experts too."""
    qwen3_5.keys(config, target)
    target.key("uint32", "expert_feed_forward_length", config.size("moe_intermediate_size"))
    shared = config.size("shared_expert_intermediate_size")
    target.key("uint32", "expert_shared_feed_forward_length", shared)


def weights(source: Source) -> Iterator[tuple[str, Weight]]:
    """Yield weights, with the experts of a layer in one."""
    n_experts = source.config.size("num_local_experts", "num_experts")
    return experts.merged(experts.apart(source.weights()), n_experts)
