"""Folders of tiny models of Qwen 3.5, whose layers follow the delta rule, most of them."""

from functools import partial
from typing import Any

from conversions.decoders import QWEN_TOKENS
from conversions.folder import Folder, Shapes
from conversions.hybrids import attention
from conversions.llama import CHATML, feed_forward
from conversions.tokenizers import byte_level

_QWEN35_TEXT: dict[str, Any] = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_output_gate": True,
    "dtype": "bfloat16",
    "eos_token_id": 282,
    "full_attention_interval": 4,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 160,
    "layer_types": [*["linear_attention"] * 3, "full_attention", "linear_attention"],
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 32,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 6,
    "linear_value_head_dim": 32,
    "max_position_embeddings": 262144,
    "model_type": "qwen3_5_text",
    "mtp_num_hidden_layers": 1,
    "mtp_use_dedicated_embeddings": False,
    "num_attention_heads": 4,
    "num_hidden_layers": 5,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_parameters": {
        "mrope_interleaved": True,
        "mrope_section": [2, 1, 1],
        "partial_rotary_factor": 0.25,
        "rope_theta": 10000000,
        "rope_type": "default",
    },
    "tie_word_embeddings": True,
    "vocab_size": 288,
}
_QWEN35MOE_TEXT = _QWEN35_TEXT | {
    "head_dim": 256,
    "layer_types": [*["linear_attention"] * 3, "full_attention"],
    "linear_num_value_heads": 2,
    "model_type": "qwen3_5_moe_text",
    "moe_intermediate_size": 32,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 4,
    "rope_parameters": {
        "partial_rotary_factor": 0.25, "rope_theta": 10000000, "rope_type": "default",
    },
    "router_aux_loss_coef": 0.001,
    "shared_expert_intermediate_size": 64,
    "tie_word_embeddings": False,
}  # fmt: skip


def _whole(text: dict[str, Any], architecture: str, model_type: str) -> dict[str, Any]:
    """config.json of a model that sees pictures too."""
    return {
        "architectures": [architecture],
        "image_token_id": 286,
        "model_type": model_type,
        "text_config": text,
        "tie_word_embeddings": text["tie_word_embeddings"],
        "transformers_version": "4.57.0.dev0",
        "video_token_id": 287,
        "vision_config": {"depth": 1, "hidden_size": 32, "model_type": model_type},
        "vision_end_token_id": 285,
        "vision_start_token_id": 284,
    }


def _delta(name: str, config: dict[str, Any]) -> Shapes:
    width, heads, head = (
        config[n] for n in ("hidden_size", "linear_num_value_heads", "linear_value_head_dim")
    )
    keys, values = config["linear_num_key_heads"] * config["linear_key_head_dim"], heads * head
    return {
        f"{name}.A_log": (heads,),
        f"{name}.conv1d.weight": (2 * keys + values, 1, 4),
        f"{name}.dt_bias": (heads,),
        f"{name}.in_proj_a.weight": (heads, width),
        f"{name}.in_proj_b.weight": (heads, width),
        f"{name}.in_proj_qkv.weight": (2 * keys + values, width),
        f"{name}.in_proj_z.weight": (values, width),
        f"{name}.norm.weight": (head,),
        f"{name}.out_proj.weight": (width, values),
    }


def _qwen_layer(layer: str, config: dict[str, Any], kind: str) -> Shapes:
    width = config["hidden_size"]
    shapes: Shapes = {f"{layer}.input_layernorm.weight": (width,)}
    if kind == "linear_attention":
        shapes |= _delta(f"{layer}.linear_attn", config)
    else:
        shapes |= attention(f"{layer}.self_attn", config, gated=True, normed=True)
    shapes[f"{layer}.post_attention_layernorm.weight"] = (width,)
    if "num_experts" not in config:
        return shapes | feed_forward(f"{layer}.mlp", width, config["intermediate_size"])
    count, inner = config["num_experts"], config["moe_intermediate_size"]
    shared = f"{layer}.mlp.shared_expert"
    return {
        **shapes,
        f"{layer}.mlp.gate.weight": (count, width),
        f"{layer}.mlp.experts.gate_up_proj": (count, 2 * inner, width),
        f"{layer}.mlp.experts.down_proj": (count, width, inner),
        **feed_forward(shared, width, config["shared_expert_intermediate_size"]),
        f"{shared}_gate.weight": (1, width),
    }


def _qwen35(config: dict[str, Any], text: str = "model.language_model") -> Shapes:
    width, rows = config["hidden_size"], config["vocab_size"]
    shapes: Shapes = {f"{text}.embed_tokens.weight": (rows, width)}
    for i, kind in enumerate(config["layer_types"]):
        shapes |= _qwen_layer(f"{text}.layers.{i}", config, kind)
    shapes[f"{text}.norm.weight"] = (width,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (rows, width)
    shapes |= _qwen_layer("mtp.layers.0", config, "full_attention")
    names = ("mtp.norm", "mtp.pre_fc_norm_embedding", "mtp.pre_fc_norm_hidden")
    shapes |= {f"{name}.weight": (width,) for name in names}
    shapes["mtp.fc.weight"] = (width, 2 * width)
    return shapes | {"model.visual.patch_embed.proj.weight": (32, 3, 2, 4, 4)}


def _apart(shapes: Shapes) -> Shapes:
    """The same tensors with every expert's matrices by themselves."""
    split: Shapes = {}
    for name, shape in shapes.items():
        stem, experts, part = name.partition("experts.")
        if not experts or len(shape) != 3:
            split[name] = shape
            continue
        for i in range(shape[0]):
            rows = shape[1] // 2 if part == "gate_up_proj" else shape[1]
            for name in ("gate_proj", "up_proj") if part == "gate_up_proj" else (part,):
                split[f"{stem}experts.{i}.{name}.weight"] = (rows, shape[2])
    return split


_TEXT = {"architectures": ["Qwen3_5ForCausalLM"], "tie_word_embeddings": False}
_TEXT_MOE = {"architectures": ["Qwen3_5MoeForCausalLM"]}
_qwen_tokenizer = partial(byte_level, specials=CHATML, config=QWEN_TOKENS, pairs=True)
_NEXT = {
    name: value
    for name, value in _QWEN35MOE_TEXT.items()
    if name not in ("mtp_num_hidden_layers", "rope_parameters", "dtype")
} | {
    "architectures": ["Qwen3NextForCausalLM"],
    "decoder_sparse_step": 1,
    "head_dim": 32,
    "linear_num_value_heads": 4,
    "mlp_only_layers": [],
    "model_type": "qwen3_next",
    "norm_topk_prob": True,
    "partial_rotary_factor": 0.25,
    "rope_theta": 10000000,
    "torch_dtype": "bfloat16",
}


def _next(config: dict[str, Any]) -> Shapes:
    """Matrices of queries, keys, values and gates together, and those of both rates."""
    shapes: Shapes = {}
    for name, shape in _apart(_qwen35(config, "model")).items():
        if name.endswith("in_proj_qkv.weight"):
            values = config["linear_num_value_heads"] * config["linear_value_head_dim"]
            shapes[name.replace("qkv", "qkvz")] = (shape[0] + values, shape[1])
        elif name.endswith("in_proj_a.weight"):
            shapes[name.replace("proj_a", "proj_ba")] = (2 * shape[0], shape[1])
        elif not name.endswith(("in_proj_z.weight", "in_proj_b.weight")):
            shapes[name] = shape
    return shapes


FOLDERS = {
    "qwen3next": Folder(
        "Qwen3-Next-80B-A3B-Instruct", _NEXT, _next(_NEXT), _qwen_tokenizer, pre="qwen2"
    ),
    "qwen35": Folder(
        "Qwen3.5-0.8B",
        _whole(_QWEN35_TEXT, "Qwen3_5ForConditionalGeneration", "qwen3_5"),
        _qwen35(_QWEN35_TEXT),
        _qwen_tokenizer,
        pre="qwen35",
        full="A_log|linear_attn.norm",
    ),
    "qwen35-text": Folder(
        "Qwen3.5-0.8B-text",
        _QWEN35_TEXT | _TEXT,
        _qwen35(_QWEN35_TEXT | _TEXT, "model"),
        _qwen_tokenizer,
        pre="qwen35",
    ),
    "qwen35moe-text": Folder(
        "Qwen3.5-35B-A3B-text",
        _QWEN35MOE_TEXT | _TEXT_MOE,
        _apart(_qwen35(_QWEN35MOE_TEXT, "model")),
        _qwen_tokenizer,
        pre="qwen35",
    ),
    "qwen35moe": Folder(
        "Qwen3.5-35B-A3B",
        _whole(_QWEN35MOE_TEXT, "Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe"),
        _qwen35(_QWEN35MOE_TEXT),
        _qwen_tokenizer,
        pre="qwen35",
        full="A_log|linear_attn.norm",
    ),
}
