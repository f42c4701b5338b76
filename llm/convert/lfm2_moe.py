"""LFM 2, mixtures of experts: "lfm2moe". Source: transformers, `Lfm2MoeForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _experts as experts
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert import lfm2
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "lfm2moe"
CLASSES = ("Lfm2MoeForCausalLM",)
DEFAULTS = {
    "rope_theta": 1e6, "max_position_embeddings": 128000, "norm_eps": 1e-5, "conv_L_cache": 3,
    "num_key_value_heads": 8, "num_dense_layers": 2, "num_experts": 32, "num_experts_per_tok": 4,
    "moe_intermediate_size": 1792,
}  # fmt: skip
_NAMES = decoder.Names(
    lfm2.LAYER
    | {
        "feed_forward.expert_bias": "exp_probs_b.bias",
        "feed_forward.experts.w1": "ffn_gate_exps",
        "feed_forward.experts.w2": "ffn_down_exps",
        "feed_forward.experts.w3": "ffn_up_exps",
        "feed_forward.gate": "ffn_gate_inp",
    },
    lfm2.WHOLE,
)
_SIGMOID = 2


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    lfm2.keys(config, target)
    target.key("uint32", "expert_feed_forward_length", config.size("moe_intermediate_size"))
    target.key("uint32", "leading_dense_block_count", config.need("num_dense_layers"))
    target.key("uint32", "expert_gating_func", _SIGMOID)
    weights = experts.merged(lfm2.flat(source), config.size("num_experts"))
    decoder.tensors(target, weights, _NAMES)
    vocabulary.gpt2(source, target)
