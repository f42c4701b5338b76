"""DeepSeek V2: "deepseek2", attention to latent keys. Source: `DeepseekV2ForCausalLM`."""

import re
from collections.abc import Iterable, Iterator
from functools import partial

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _experts as experts
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Config, Source
from jitllm.llm.convert._target import Target
from jitllm.llm.convert._weights import Array, Weight
from jitllm.llm.errors import ModelFormatError

ARCHITECTURE = "deepseek2"
CLASSES = ("DeepseekV2ForCausalLM",)
DEFAULTS = {
    "rope_theta": 10000.0, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
    "first_k_dense_replace": 0, "kv_lora_rank": 512, "moe_intermediate_size": 1407,
    "n_shared_experts": 2, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
    "routed_scaling_factor": 1.0, "v_head_dim": 128,
}  # fmt: skip
_NAMES = decoder.Names(
    decoder.LAYER
    | experts.LAYER
    | {
        "self_attn.q_a_proj": "attn_q_a",
        "self_attn.q_a_layernorm": "attn_q_a_norm",
        "self_attn.q_b_proj": "attn_q_b",
        "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
        "self_attn.kv_a_layernorm": "attn_kv_a_norm",
        "self_attn.k_b_proj": "attn_k_b",
        "self_attn.v_b_proj": "attn_v_b",
        "mlp.gate.e_score_correction": "exp_probs_b",
        "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
        "mlp.shared_experts.up_proj": "ffn_up_shexp",
        "mlp.shared_experts.down_proj": "ffn_down_shexp",
    }
)
_LAYER = re.compile(r"model\.layers\.(\d+)\.")


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    _keys(config, target)
    weights = _split(config, _kept(config, source.weights()))
    for name, weight in experts.merged(weights, config.size("n_routed_experts")):
        name = name.replace("e_score_correction_bias", "e_score_correction.bias")
        target.tensor(_NAMES(name), weight)
    vocabulary.gpt2(source, target)


def _keys(config: Config, target: Target) -> None:
    """Put down the sizes: heads share one latent head, from which each computes its own."""
    latent, rope = config.size("kv_lora_rank"), config.size("qk_rope_head_dim")
    config.values |= {"num_key_value_heads": 1, "head_dim": latent}
    decoder.keys(config, target)
    target.key("uint32", "attention.key_length", latent + rope)
    target.key("uint32", "attention.key_length_mla", config.size("qk_nope_head_dim") + rope)
    target.key("uint32", "attention.value_length_mla", config.size("v_head_dim"))
    target.key("uint32", "attention.kv_lora_rank", latent)
    target.key("uint32", "attention.q_lora_rank", config.get("q_lora_rank"))
    target.key("uint32", "rope.dimension_count", rope)
    target.key("uint32", "vocab_size", config.size("vocab_size"))
    target.key("uint32", "leading_dense_block_count", config.need("first_k_dense_replace"))
    target.key("uint32", "expert_feed_forward_length", config.size("moe_intermediate_size"))
    target.key("uint32", "expert_shared_count", config.need("n_shared_experts"))
    target.key("float32", "expert_weights_scale", config.need("routed_scaling_factor"))
    target.key("bool", "expert_weights_norm", config.get("norm_topk_prob") or None)
    scale = decoder.rope_parameters(config).get("mscale_all_dim")
    if scale is not None:  # readers of this architecture expect a tenth of it
        target.key("float32", "rope.scaling.yarn_log_multiplier", 0.1 * scale)


def _kept(config: Config, weights: Iterable[tuple[str, Weight]]) -> Iterator[tuple[str, Weight]]:
    """Yield weights without those of layers that predict further tokens, as the reference does."""
    n_layers = config.size("num_hidden_layers")
    for name, weight in weights:
        found = _LAYER.match(name)
        tied = name == "lm_head.weight" and config.get("tie_word_embeddings")
        if not tied and (found is None or int(found[1]) < n_layers):
            yield name, weight


def _split(config: Config, weights: Iterable[tuple[str, Weight]]) -> Iterator[tuple[str, Weight]]:
    """Yield weights with what makes keys and values of the latent head apart, keys transposed.

    Raises
    ------
    ModelFormatError
        If the rows are no heads.
    """
    n_heads, plain = config.size("num_attention_heads"), config.size("qk_nope_head_dim")
    size = plain + config.size("v_head_dim")
    for name, weight in weights:
        if not name.endswith("kv_b_proj.weight"):
            yield name, weight
            continue
        if weight.shape[0] != n_heads * size:
            raise ModelFormatError(
                f"tensor {name!r}: expected {n_heads} heads of {size} rows, got {weight.shape[0]} "
                "rows; the weights are of another model than config.json"
            )
        keys, values = (name.replace("kv_b_proj", f"{kind}_b_proj") for kind in "kv")
        yield keys, weight.moved(partial(_heads, n_heads, slice(plain))).moved(_transposed)
        yield values, weight.moved(partial(_heads, n_heads, slice(plain, None)))


def _heads(n_heads: int, rows: slice, array: Array) -> Array:
    """Return some rows of every head."""
    return array.reshape(n_heads, -1, array.shape[-1])[:, rows]


def _transposed(heads: Array) -> Array:
    return heads.swapaxes(1, 2)
