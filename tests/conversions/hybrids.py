"""Folders of tiny models whose layers are not Llama's: latent attention, Mamba-2."""

from functools import partial
from typing import Any

from conversions.decoders import GPT2_TOKENS
from conversions.folder import Folder, Shapes
from conversions.llama import CHATML, feed_forward
from conversions.tokenizers import byte_level

_DEEPSEEK_TOKENS = {
    "add_bos_token": True,
    "add_eos_token": False,
    "bos_token": {"__type": "AddedToken", "content": "<｜begin▁of▁sentence｜>"},
    "eos_token": {"__type": "AddedToken", "content": "<｜end▁of▁sentence｜>"},
    "legacy": True,
    "pad_token": {"__type": "AddedToken", "content": "<｜▁pad▁｜>"},
    "tokenizer_class": "LlamaTokenizerFast",
    "unk_token": None,
}
_DEEPSEEK_ADDED = (
    *("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>", "<｜User｜>", "<think>"),
)
_DEEPSEEK_PLAIN = ("<｜User｜>", "<think>")
_DEEPSEEK2 = {
    "architectures": ["DeepseekV2ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "aux_loss_alpha": 0.001,
    "bos_token_id": 280,
    "eos_token_id": 281,
    "first_k_dense_replace": 1,
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 160,
    "kv_lora_rank": 32,
    "max_position_embeddings": 4096,
    "model_type": "deepseek_v2",
    "moe_intermediate_size": 32,
    "moe_layer_freq": 1,
    "n_group": 1,
    "n_routed_experts": 4,
    "n_shared_experts": 2,
    "norm_topk_prob": False,
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "q_lora_rank": None,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 40,
        "mscale": 0.707,
        "mscale_all_dim": 0.707,
        "original_max_position_embeddings": 1024,
        "type": "yarn",
    },
    "rope_theta": 10000,
    "routed_scaling_factor": 1.0,
    "scoring_func": "softmax",
    "tie_word_embeddings": False,
    "topk_group": 1,
    "topk_method": "greedy",
    "torch_dtype": "bfloat16",
    "v_head_dim": 24,
    "vocab_size": 288,
}
_DEEPSEEK3 = _DEEPSEEK2 | {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "n_group": 2,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_hidden_layers": 3,
    "num_nextn_predict_layers": 1,
    "q_lora_rank": 48,
    "rope_scaling": None,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "topk_group": 1,
    "topk_method": "noaux_tc",
}
_MAMBA2 = {
    "architectures": ["Mamba2ForCausalLM"],
    "bos_token_id": 280,
    "chunk_size": 256,
    "conv_kernel": 4,
    "eos_token_id": 280,
    "expand": 2,
    "head_dim": 16,
    "hidden_act": "silu",
    "hidden_size": 64,
    "layer_norm_epsilon": 1e-05,
    "model_type": "mamba2",
    "n_groups": 2,
    "norm_before_gate": False,
    "num_heads": 8,
    "num_hidden_layers": 3,
    "pad_token_id": 280,
    "residual_in_fp32": True,
    "rms_norm": True,
    "state_size": 32,
    "tie_word_embeddings": True,
    "time_step_rank": 4,
    "torch_dtype": "float32",
    "use_bias": False,
    "use_conv_bias": True,
    "vocab_size": 288,
}
_MAMBA2_OLD: dict[str, Any] = {
    "attn_cfg": {},
    "attn_layer_idx": [],
    "d_intermediate": 0,
    "d_model": 64,
    "fused_add_norm": True,
    "n_layer": 2,
    "pad_vocab_size_multiple": 16,
    "residual_in_fp32": True,
    "rms_norm": True,
    "ssm_cfg": {"layer": "Mamba2"},
    "tie_embeddings": True,
    "vocab_size": 283,
}
_MAMBA2_NEW = {"n_groups": 1, "num_heads": 2, "num_hidden_layers": 2, "state_size": 128}
_FALCON_H1 = {
    "architectures": ["FalconH1ForCausalLM"],
    "attention_bias": False,
    "attention_in_multiplier": 0.9,
    "attention_out_multiplier": 0.7,
    "bos_token_id": 280,
    "embedding_multiplier": 5.65,
    "eos_token_id": 281,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 160,
    "key_multiplier": 0.39,
    "lm_head_multiplier": 0.039,
    "mamba_chunk_size": 128,
    "mamba_conv_bias": True,
    "mamba_d_conv": 4,
    "mamba_d_head": 16,
    "mamba_d_ssm": 96,
    "mamba_d_state": 32,
    "mamba_expand": 2,
    "mamba_n_groups": 2,
    "mamba_n_heads": 6,
    "mamba_norm_before_gate": False,
    "mamba_proj_bias": False,
    "mamba_rms_norm": True,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "mlp_multipliers": [0.88, 0.23],
    "model_type": "falcon_h1",
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "pad_token_id": 280,
    "projectors_bias": False,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 100000042.0,
    "ssm_in_multiplier": 1.25,
    "ssm_multipliers": [0.35, 0.25, 0.18, 0.5, 0.31],
    "ssm_out_multiplier": 0.47,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 288,
}


def _latent_layer(config: dict[str, Any], i: int) -> Shapes:
    width, heads, rank = config["hidden_size"], config["num_attention_heads"], config["q_lora_rank"]
    plain, rope, v = (config[f"{n}_head_dim"] for n in ("qk_nope", "qk_rope", "v"))
    attention = f"model.layers.{i}.self_attn"
    queries: Shapes = {f"{attention}.q_proj.weight": (heads * (plain + rope), width)}
    if rank:
        queries = {
            f"{attention}.q_a_proj.weight": (rank, width),
            f"{attention}.q_a_layernorm.weight": (rank,),
            f"{attention}.q_b_proj.weight": (heads * (plain + rope), rank),
        }
    latent = config["kv_lora_rank"]
    return {
        f"model.layers.{i}.input_layernorm.weight": (width,),
        **queries,
        f"{attention}.kv_a_proj_with_mqa.weight": (latent + rope, width),
        f"{attention}.kv_a_layernorm.weight": (latent,),
        f"{attention}.kv_b_proj.weight": (heads * (plain + v), latent),
        f"{attention}.o_proj.weight": (width, heads * v),
        f"model.layers.{i}.post_attention_layernorm.weight": (width,),
    }


def _deepseek(config: dict[str, Any]) -> Shapes:
    width, inner = config["hidden_size"], config["moe_intermediate_size"]
    shapes: Shapes = {"model.embed_tokens.weight": (config["vocab_size"], width)}
    layers = config["num_hidden_layers"]
    for i in range(layers + config.get("num_nextn_predict_layers", 0)):
        shapes |= _latent_layer(config, i)
        name = f"model.layers.{i}.mlp"
        if i < config["first_k_dense_replace"]:
            shapes |= feed_forward(name, width, config["intermediate_size"])
            continue
        shapes[f"{name}.gate.weight"] = (config["n_routed_experts"], width)
        if config["topk_method"] == "noaux_tc":
            shapes[f"{name}.gate.e_score_correction_bias"] = (config["n_routed_experts"],)
        for j in range(config["n_routed_experts"]):
            shapes |= feed_forward(f"{name}.experts.{j}", width, inner)
        shapes |= feed_forward(f"{name}.shared_experts", width, config["n_shared_experts"] * inner)
    for i in range(layers, layers + config.get("num_nextn_predict_layers", 0)):
        shapes |= {f"model.layers.{i}.{norm}.weight": (width,) for norm in ("enorm", "hnorm")}
        shapes[f"model.layers.{i}.eh_proj.weight"] = (width, 2 * width)
        shapes[f"model.layers.{i}.embed_tokens.weight"] = (config["vocab_size"], width)
        shapes[f"model.layers.{i}.shared_head.norm.weight"] = (width,)
        shapes[f"model.layers.{i}.shared_head.head.weight"] = (config["vocab_size"], width)
    return shapes | {"model.norm.weight": (width,), "lm_head.weight": (config["vocab_size"], width)}


def mixer(name: str, width: int, inner: int, heads: int, states: int) -> Shapes:
    """A Mamba-2 mixer; `states` are all groups' numbers in B."""
    return {
        f"{name}.A_log": (heads,),
        f"{name}.D": (heads,),
        f"{name}.dt_bias": (heads,),
        f"{name}.conv1d.weight": (inner + 2 * states, 1, 4),
        f"{name}.conv1d.bias": (inner + 2 * states,),
        f"{name}.in_proj.weight": (2 * inner + 2 * states + heads, width),
        f"{name}.norm.weight": (inner,),
        f"{name}.out_proj.weight": (width, inner),
    }


def _mamba2(config: dict[str, Any]) -> Shapes:
    width, states = config["hidden_size"], config["n_groups"] * config["state_size"]
    inner = config["expand"] * width
    shapes: Shapes = {"backbone.embeddings.weight": (config["vocab_size"], width)}
    for i in range(config["num_hidden_layers"]):
        name = f"backbone.layers.{i}"
        shapes[f"{name}.norm.weight"] = (width,)
        shapes |= mixer(f"{name}.mixer", width, inner, config["num_heads"], states)
    return shapes | {"backbone.norm_f.weight": (width,)}


def attention(
    name: str, config: dict[str, Any], *, gated: bool = False, normed: bool = False
) -> Shapes:
    """The tensors of attention with a gate in the query, and norms of query and key."""
    width, head = config["hidden_size"], config["head_dim"]
    q, k = (config[f"num_{n}_heads"] * head for n in ("attention", "key_value"))
    norms: Shapes = {f"{name}.{n}_norm.weight": (head,) for n in "qk"} if normed else {}
    return norms | {
        f"{name}.q_proj.weight": (q * (1 + gated), width),
        f"{name}.k_proj.weight": (k, width),
        f"{name}.v_proj.weight": (k, width),
        f"{name}.o_proj.weight": (width, q),
    }


def _falcon(config: dict[str, Any]) -> Shapes:
    width, states = config["hidden_size"], config["mamba_n_groups"] * config["mamba_d_state"]
    inner, heads = config["mamba_d_ssm"], config["mamba_n_heads"]
    shapes: Shapes = {"model.embed_tokens.weight": (config["vocab_size"], width)}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        shapes |= feed_forward(f"{layer}.feed_forward", width, config["intermediate_size"])
        shapes |= mixer(f"{layer}.mamba", width, inner, heads, states)
        shapes |= attention(f"{layer}.self_attn", config)
        shapes |= {f"{layer}.{n}_layernorm.weight": (width,) for n in ("input", "pre_ff")}
    shapes["model.final_layernorm.weight"] = (width,)
    return shapes | {"lm_head.weight": (config["vocab_size"], width)}


_deepseek_tokenizer = partial(
    byte_level, specials=_DEEPSEEK_ADDED, config=_DEEPSEEK_TOKENS, plain=_DEEPSEEK_PLAIN
)
_gpt2_tokenizer = partial(byte_level, specials=CHATML, config=GPT2_TOKENS)
FOLDERS = {
    "deepseek2": Folder(
        "DeepSeek-V3",
        _DEEPSEEK3,
        _deepseek(_DEEPSEEK3),
        partial(_deepseek_tokenizer, bos="<｜begin▁of▁sentence｜>"),
        pre="deepseek-v3",
        full="e_score_correction_bias",
    ),
    "deepseek2-lite": Folder(
        "DeepSeek-V2-Lite-Chat",
        _DEEPSEEK2,
        _deepseek(_DEEPSEEK2),
        _deepseek_tokenizer,
        pre="deepseek-llm",
    ),
    "mamba2": Folder(
        "mamba2-130m-hf", _MAMBA2, _mamba2(_MAMBA2), _gpt2_tokenizer, pre="mpt", dtype="F32"
    ),
    "mamba2-original": Folder(
        "mamba2-370m",
        _MAMBA2_OLD,
        _mamba2(
            _MAMBA2 | {"n_groups": 1, "state_size": 128, "num_heads": 2, "num_hidden_layers": 2}
        ),
        _gpt2_tokenizer,
        pre="mpt",
        dtype="F16",
    ),
    "falcon-h1": Folder(
        "Falcon-H1-0.5B-Instruct",
        _FALCON_H1,
        _falcon(_FALCON_H1),
        _gpt2_tokenizer,
        pre="falcon-h1",
    ),
}
