"""Qwen 3, mixtures of experts: "qwen3moe". Source: transformers, `Qwen3MoeForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _experts as experts
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "qwen3moe"
CLASSES = ("Qwen3MoeForCausalLM",)
DEFAULTS = {
    "rope_theta": 10000.0, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
    "num_key_value_heads": 4, "num_experts_per_tok": 8, "moe_intermediate_size": 768,
}  # fmt: skip
_NAMES = decoder.Names(
    decoder.LAYER
    | {
        "mlp.experts.gate_proj": "ffn_gate_exps",
        "mlp.experts.up_proj": "ffn_up_exps",
        "mlp.experts.down_proj": "ffn_down_exps",
    }
)


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    decoder.keys(config, target)
    size = config.size("moe_intermediate_size")
    target.key("uint32", "expert_feed_forward_length", size)
    n_experts = config.size("num_local_experts", "num_experts")
    weights = experts.merged(experts.apart(source.weights()), n_experts)
    decoder.tensors(target, weights, _NAMES)
    vocabulary.gpt2(source, target)
