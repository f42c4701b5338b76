"""GLM 4.5 and 4.6: "glm4moe". Source: transformers, `Glm4MoeForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _experts as experts
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert import glm4
from jitllm.llm.convert._source import Config, Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "glm4moe"
CLASSES = ("Glm4MoeForCausalLM",)
DEFAULTS = {
    "rope_theta": 10000.0, "max_position_embeddings": 131072, "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5, "partial_rotary_factor": 0.5, "first_k_dense_replace": 1,
    "moe_intermediate_size": 1408, "n_group": 1, "n_routed_experts": 128, "n_shared_experts": 1,
    "norm_topk_prob": True, "num_experts_per_tok": 8, "routed_scaling_factor": 1.0,
    "topk_group": 1,
}  # fmt: skip
_NAMES = decoder.Names(
    decoder.LAYER
    | experts.LAYER
    | {
        "eh_proj": "nextn.eh_proj",
        "embed_tokens": "nextn.embed_tokens",
        "enorm": "nextn.enorm",
        "hnorm": "nextn.hnorm",
        "mlp.gate.e_score_correction_bias": "exp_probs_b.bias",
        "mlp.shared_experts.down_proj": "ffn_down_shexp",
        "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
        "mlp.shared_experts.up_proj": "ffn_up_shexp",
        "post_attention_layernorm": "post_attention_norm",
        "shared_head.head": "nextn.shared_head_head",
        "shared_head.norm": "nextn.shared_head_norm",
    }
)
_SIGMOID = 2
_PARTS = {"bos": "[gMASK]", "eot": "<|user|>", "unknown": "<|endoftext|>", "eom": "<|observation|>"}


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    _keys(config, target)
    weights = experts.merged(experts.apart(source.weights()), config.size("n_routed_experts"))
    decoder.tensors(target, weights, _NAMES)
    vocabulary.gpt2(source, target)
    glm4.write_parts(source, target, _PARTS)


def _keys(config: Config, target: Target) -> None:
    decoder.keys(config, target)
    n_next = config.get("num_nextn_predict_layers")
    n_layers = config.size("num_hidden_layers") + (n_next or 0)
    target.key("uint32", "block_count", n_layers)
    target.key("uint32", "nextn_predict_layers", n_next)
    share = decoder.rope_parameters(config).get("partial_rotary_factor", 0.5)
    target.key("uint32", "rope.dimension_count", int(decoder.head_dim(config) * share))
    target.key("uint32", "expert_feed_forward_length", config.size("moe_intermediate_size"))
    target.key("uint32", "expert_shared_count", config.need("n_shared_experts"))
    target.key("uint32", "leading_dense_block_count", config.need("first_k_dense_replace"))
    target.key("uint32", "expert_gating_func", _SIGMOID)
    target.key("float32", "expert_weights_scale", config.need("routed_scaling_factor"))
    target.key("bool", "expert_weights_norm", config.need("norm_topk_prob"))
