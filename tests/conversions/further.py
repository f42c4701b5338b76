"""Folders of tiny models of further kinds: encoders, experts and states."""

from functools import partial
from typing import Any

from conversions.decoders import BASE, GPT2_TOKENS
from conversions.dense import ATTENTION, GATED, NORMS, table
from conversions.folder import Folder, Shapes, pooling
from conversions.llama import CHATML, feed_forward
from conversions.mixtures import LFM2, lfm2
from conversions.tokenizers import byte_level, sentencepiece

_gpt2 = partial(byte_level, specials=CHATML, config=GPT2_TOKENS)
_MODERNBERT: dict[str, Any] = {
    "architectures": ["ModernBertModel"],
    "attention_bias": False,
    "bos_token_id": 280,
    "classifier_pooling": "mean",
    "cls_token_id": 280,
    "decoder_bias": True,
    "eos_token_id": 281,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160000.0,
    "hidden_activation": "gelu",
    "hidden_size": 64,
    "intermediate_size": 96,
    "layer_norm_eps": 1e-05,
    "local_attention": 16,
    "local_rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "mlp_bias": False,
    "model_type": "modernbert",
    "norm_bias": False,
    "norm_eps": 1e-05,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "pad_token_id": 282,
    "sep_token_id": 281,
    "vocab_size": 288,
}
_MODERNBERT_TOKENS = {
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
    "pad_token": "[PAD]",
    "sep_token": "[SEP]",
    "tokenizer_class": "PreTrainedTokenizerFast",
    "unk_token": "[UNK]",
}
_OLMO: dict[str, Any] = {name: v for name, v in BASE.items() if name != "rms_norm_eps"} | {
    "architectures": ["OlmoForCausalLM"],
    "clip_qkv": 8.0,
    "model_type": "olmo",
    "pad_token_id": 280,
    "rope_theta": 10000.0,
}
_LFM2MOE = {name: v for name, v in LFM2.items() if not name.startswith("block")} | {
    "architectures": ["Lfm2MoeForCausalLM"],
    "intermediate_size": 64,
    "model_type": "lfm2_moe",
    "moe_intermediate_size": 32,
    "norm_topk_prob": True,
    "num_dense_layers": 1,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "routed_scaling_factor": 1.0,
    "use_expert_bias": True,
}
_GLM4MOE: dict[str, Any] = BASE | {
    "architectures": ["Glm4MoeForCausalLM"],
    "attention_bias": True,
    "first_k_dense_replace": 1,
    "head_dim": 32,
    "model_type": "glm4_moe",
    "moe_intermediate_size": 32,
    "n_group": 1,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_experts_per_tok": 2,
    "num_nextn_predict_layers": 1,
    "pad_token_id": 280,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000,
    "routed_scaling_factor": 2.5,
    "topk_group": 1,
    "use_qk_norm": True,
}
_JAMBA: dict[str, Any] = BASE | {
    "architectures": ["JambaForCausalLM"],
    "attn_layer_offset": 1,
    "attn_layer_period": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "expert_layer_offset": 1,
    "expert_layer_period": 2,
    "mamba_conv_bias": True,
    "mamba_d_conv": 4,
    "mamba_d_state": 16,
    "mamba_dt_rank": 8,
    "mamba_expand": 2,
    "mamba_proj_bias": False,
    "model_type": "jamba",
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 4,
    "use_mamba_kernels": False,
    "vocab_size": 304,
}
_BIASED = ATTENTION | {f"self_attn.{n}_proj.bias": s for n, s in zip("qkv", "qkk", strict=True)}


def _experts(name: str, count: int, width: int, inner: int) -> Shapes:
    shapes: Shapes = {}
    for i in range(count):
        shapes |= feed_forward(f"{name}.{i}", width, inner)
    return shapes


def _lfm2moe(config: dict[str, Any]) -> Shapes:
    shapes = lfm2(config)
    for i in range(config["num_dense_layers"], config["num_hidden_layers"]):
        name = f"model.layers.{i}.feed_forward"
        dense = {part: shapes.pop(f"{name}.{part}.weight") for part in ("w1", "w2", "w3")}
        width = dense["w1"][1]
        shapes[f"{name}.gate.weight"] = (config["num_experts"], width)
        shapes[f"{name}.expert_bias"] = (config["num_experts"],)
        inner = config["moe_intermediate_size"]
        for j in range(config["num_experts"]):
            shapes[f"{name}.experts.{j}.w1.weight"] = (inner, width)
            shapes[f"{name}.experts.{j}.w2.weight"] = (width, inner)
            shapes[f"{name}.experts.{j}.w3.weight"] = (inner, width)
    return shapes


def _glm4moe(config: dict[str, Any]) -> Shapes:
    more = {"self_attn.q_norm.weight": "d", "self_attn.k_norm.weight": "d"}
    shapes = table(config | {"num_hidden_layers": 4}, _BIASED | NORMS | more)
    shapes |= feed_forward("model.layers.0.mlp", 64, 160)
    for i in range(1, 4):
        name = f"model.layers.{i}.mlp"
        shapes[f"{name}.gate.weight"] = (4, 64)
        shapes[f"{name}.gate.e_score_correction_bias"] = (4,)
        shapes |= _experts(f"{name}.experts", 4, 64, 32)
        shapes |= feed_forward(f"{name}.shared_experts", 64, 32)
    last = "model.layers.3"
    shapes |= {f"{last}.{norm}.weight": (64,) for norm in ("enorm", "hnorm", "shared_head.norm")}
    shapes[f"{last}.eh_proj.weight"] = (64, 128)
    names = ("embed_tokens", "shared_head.head")
    return shapes | {f"{last}.{name}.weight": (288, 64) for name in names}


def _jamba(config: dict[str, Any]) -> Shapes:
    shapes = table(
        config,
        {"input_layernorm.weight": "w", "pre_ff_layernorm.weight": "w"},
        {"model.embed_tokens.weight": "vw", "model.final_layernorm.weight": "w"}
        | {"lm_head.weight": "vw"},
    )
    attention = table(config, ATTENTION, {})
    mamba = table(
        config,
        {
            "mamba.A_log": "is",
            "mamba.D": "i",
            "mamba.conv1d.weight": "i14",
            "mamba.conv1d.bias": "i",
        }
        | {"mamba.dt_proj.weight": "i8", "mamba.dt_proj.bias": "i", "mamba.x_proj.weight": "xi"}
        | {"mamba.in_proj.weight": "tw", "mamba.out_proj.weight": "wi"}
        | {f"mamba.{n}_layernorm.weight": s for n, s in (("dt", "8"), ("b", "s"), ("c", "s"))},
        {},
        i=128,
        s=16,
        t=256,
        x=40,
    )
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        kind = attention if i % 2 else mamba
        shapes |= {name: shape for name, shape in kind.items() if name.startswith(layer)}
        if i % 2:
            shapes |= _experts(f"{layer}feed_forward.experts", 4, 64, 160)
            shapes[f"{layer}feed_forward.router.weight"] = (4, 64)
        else:
            shapes |= feed_forward(f"{layer}feed_forward", 64, 160)
    return shapes


FOLDERS = {
    "modernbert": Folder(
        "ModernBERT-base",
        _MODERNBERT,
        {
            name: shape
            for name, shape in table(
                _MODERNBERT,
                {"attn.Wo.weight": "ww", "attn.Wqkv.weight": "tw", "attn_norm.weight": "w"}
                | {"mlp.Wi.weight": "tw", "mlp.Wo.weight": "wf", "mlp_norm.weight": "w"},
                {"embeddings.tok_embeddings.weight": "vw", "embeddings.norm.weight": "w"}
                | {"final_norm.weight": "w"},
                "layers.",
                t=192,
            ).items()
            if name != "layers.0.attn_norm.weight"
        },
        partial(
            byte_level,
            specials=("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"),
            config=_MODERNBERT_TOKENS,
        ),
        pre="modern-bert",
        dtype="F32",
        files=pooling("mean_tokens"),
    ),
    "olmo": Folder(
        "OLMo-1.7-7B-hf",
        _OLMO,
        table(
            _OLMO, ATTENTION | GATED, {"model.embed_tokens.weight": "vw", "lm_head.weight": "vw"}
        ),
        _gpt2,
        pre="olmo",
        dtype="F32",
    ),
    "lfm2moe": Folder(
        "LFM2-8B-A1B", _LFM2MOE, _lfm2moe(_LFM2MOE), _gpt2, pre="lfm2", full="expert_bias"
    ),
    "glm4moe": Folder(
        "GLM-4.5-Air",
        _GLM4MOE,
        _glm4moe(_GLM4MOE),
        partial(
            byte_level,
            specials=("<|endoftext|>", "[gMASK]", "<|user|>", "<|observation|>"),
            config={"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
        ),
        pre="glm4",
        full="e_score_correction_bias",
    ),
    "jamba": Folder(
        "Jamba-v0.1", _JAMBA, _jamba(_JAMBA), partial(sentencepiece, config={}), dtype="F32"
    ),
}
