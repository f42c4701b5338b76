"""Folders of tiny models with experts, convolutions or states."""

from functools import partial
from typing import Any

from conversions.decoders import BASE, GPT2_TOKENS, qwen_tokenizer
from conversions.dense import ATTENTION, BIASES, NORMS, biased, table
from conversions.folder import Folder, Shapes
from conversions.hybrids import mixer
from conversions.llama import CHATML
from conversions.tokenizers import byte_level


def _experts(count: int, name: str = "mlp") -> dict[str, str]:
    parts = {"gate_proj": "ew", "up_proj": "ew", "down_proj": "we"}
    return {
        f"{name}.experts.{i}.{part}.weight": text
        for i in range(count)
        for part, text in parts.items()
    } | {f"{name}.gate.weight": "nw"}


_gpt2 = partial(byte_level, specials=CHATML, config=GPT2_TOKENS)
_QWEN2MOE: dict[str, Any] = BASE | {
    "architectures": ["Qwen2MoeForCausalLM"],
    "decoder_sparse_step": 1,
    "max_window_layers": 2,
    "model_type": "qwen2_moe",
    "moe_intermediate_size": 32,
    "norm_topk_prob": False,
    "num_experts": 5,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "output_router_logits": False,
    "rope_theta": 1000000.0,
    "shared_expert_intermediate_size": 96,
    "sliding_window": 32768,
    "use_sliding_window": False,
}
_OLMOE: dict[str, Any] = BASE | {
    "architectures": ["OlmoeForCausalLM"],
    "clip_qkv": None,
    "intermediate_size": 32,
    "model_type": "olmoe",
    "norm_topk_prob": False,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
}
_GPT_OSS: dict[str, Any] = BASE | {
    "architectures": ["GptOssForCausalLM"],
    "attention_bias": True,
    "eos_token_id": 282,
    "head_dim": 32,
    "initial_context_length": 4096,
    "intermediate_size": 64,
    "layer_types": ["sliding_attention", "full_attention"],
    "max_position_embeddings": 131072,
    "model_type": "gpt_oss",
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_local_experts": 4,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "factor": 32.0,
        "original_max_position_embeddings": 4096,
        "rope_type": "yarn",
        "truncate": False,
    },
    "rope_theta": 150000,
    "sliding_window": 128,
    "swiglu_limit": 7.0,
}
LFM2: dict[str, Any] = {
    "architectures": ["Lfm2ForCausalLM"],
    "block_auto_adjust_ff_dim": True,
    "block_ff_dim": 96,
    "block_ffn_dim_multiplier": 1.0,
    "block_multiple_of": 32,
    "bos_token_id": 280,
    "conv_L_cache": 3,
    "conv_bias": False,
    "eos_token_id": 282,
    "hidden_size": 64,
    "layer_types": ["conv", "full_attention", "conv"],
    "max_position_embeddings": 128000,
    "model_type": "lfm2",
    "norm_eps": 1e-05,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "pad_token_id": 280,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
    "vocab_size": 288,
}
_MAMBA: dict[str, Any] = {
    "architectures": ["MambaForCausalLM"],
    "bos_token_id": 280,
    "conv_kernel": 4,
    "eos_token_id": 280,
    "expand": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "layer_norm_epsilon": 1e-05,
    "model_type": "mamba",
    "num_hidden_layers": 3,
    "pad_token_id": 280,
    "state_size": 16,
    "tie_word_embeddings": False,
    "time_step_rank": 4,
    "torch_dtype": "float32",
    "use_bias": False,
    "use_conv_bias": True,
    "vocab_size": 284,
}
_GRANITEMOE: dict[str, Any] = BASE | {
    "architectures": ["GraniteMoeForCausalLM"],
    "attention_multiplier": 0.0625,
    "embedding_multiplier": 12.0,
    "intermediate_size": 32,
    "logits_scaling": 6.0,
    "model_type": "granitemoe",
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_local_experts": 4,
    "residual_multiplier": 0.22,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}
_HYBRID: dict[str, Any] = _GRANITEMOE | {
    "architectures": ["GraniteMoeHybridForCausalLM"],
    "layer_types": ["mamba", "mamba", "attention"],
    "mamba_conv_bias": True,
    "mamba_d_conv": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 32,
    "mamba_expand": 2,
    "mamba_n_groups": 1,
    "mamba_n_heads": 8,
    "mamba_proj_bias": False,
    "model_type": "granitemoehybrid",
    "num_hidden_layers": 3,
    "position_embedding_type": "nope",
    "shared_intermediate_size": 96,
}
_FFN = {"w1.weight": "fw", "w2.weight": "wf", "w3.weight": "fw"}
_WHOLE = {"model.embed_tokens.weight": "vw", "model.norm.weight": "w", "lm_head.weight": "vw"}
_GRANITE_EXPERTS = {
    "block_sparse_moe.input_linear.weight": "egw",
    "block_sparse_moe.output_linear.weight": "ewf",
    "block_sparse_moe.router.layer.weight": "ew",
}


def lfm2(config: dict[str, Any]) -> Shapes:
    """Layers of two kinds: their tensors are listed as if all had both, then chosen."""
    every = table(
        config,
        {f"feed_forward.{name}": text for name, text in _FFN.items()}
        | {"ffn_norm.weight": "w", "operator_norm.weight": "w"}
        | {"conv.conv.weight": "w1l", "conv.in_proj.weight": "tw", "conv.out_proj.weight": "ww"}
        | {name.replace("o_proj", "out_proj"): text for name, text in ATTENTION.items()}
        | {"self_attn.q_layernorm.weight": "d", "self_attn.k_layernorm.weight": "d"},
        {"model.embed_tokens.weight": "vw", "model.embedding_norm.weight": "w"},
        f=64,
        l=3,
        t=192,
    )
    other = {i: ".self_attn." if kind == "conv" else ".conv."
             for i, kind in enumerate(config["layer_types"])}  # fmt: skip
    return {
        name: shape
        for name, shape in every.items()
        if not any(f"layers.{i}{part}" in name for i, part in other.items())
    }


def _hybrid(config: dict[str, Any]) -> Shapes:
    shapes = table(
        config,
        NORMS
        | _GRANITE_EXPERTS
        | {"shared_mlp.input_linear.weight": "tw", "shared_mlp.output_linear.weight": "ws"},
        e=4,
        g=64,
        s=96,
        t=192,
    )
    attention = table(config, ATTENTION, {})
    for i, kind in enumerate(config["layer_types"]):
        layer = f"model.layers.{i}."
        if kind == "mamba":
            shapes |= mixer(f"{layer}mamba", 64, 128, 8, 32)
        else:
            shapes |= {name: shape for name, shape in attention.items() if name.startswith(layer)}
    return shapes


FOLDERS = {
    "qwen2moe": Folder(
        "Qwen1.5-MoE-A2.7B-Chat",
        _QWEN2MOE,
        table(
            _QWEN2MOE,
            ATTENTION
            | BIASES
            | NORMS
            | _experts(5)
            | {"mlp.shared_expert.gate_proj.weight": "sw", "mlp.shared_expert.up_proj.weight": "sw"}
            | {"mlp.shared_expert.down_proj.weight": "ws", "mlp.shared_expert_gate.weight": "1w"},
            e=32,
            n=5,
            s=96,
        ),
        qwen_tokenizer,
        pre="qwen2",
        shards=2,
    ),
    "olmoe": Folder(
        "OLMoE-1B-7B-0924-Instruct",
        _OLMOE,
        table(
            _OLMOE,
            ATTENTION
            | NORMS
            | _experts(4)
            | {"self_attn.q_norm.weight": "q", "self_attn.k_norm.weight": "k"},
            e=32,
            n=4,
        ),
        _gpt2,
        pre="olmo",
    ),
    "gpt-oss": Folder(
        "gpt-oss-20b-BF16",
        _GPT_OSS,
        table(
            _GPT_OSS,
            biased(ATTENTION)
            | NORMS
            | {"self_attn.sinks": "h", "mlp.router.weight": "ew", "mlp.router.bias": "e"}
            | {"mlp.experts.gate_up_proj": "ewg", "mlp.experts.gate_up_proj_bias": "eg"}
            | {"mlp.experts.down_proj": "efw", "mlp.experts.down_proj_bias": "ew"},
            e=4,
            g=128,
            h=4,
        ),
        _gpt2,
        pre="gpt-4o",
    ),
    "lfm2": Folder("LFM2-350M", LFM2, lfm2(LFM2), _gpt2, pre="lfm2"),
    "mamba": Folder(
        "mamba-130m-hf",
        _MAMBA,
        table(
            _MAMBA | {"num_attention_heads": 4},
            {"mixer.A_log": "is", "mixer.D": "i", "norm.weight": "w"}
            | {"mixer.conv1d.weight": "i14", "mixer.conv1d.bias": "i", "mixer.x_proj.weight": "xi"}
            | {"mixer.dt_proj.weight": "i4", "mixer.dt_proj.bias": "i"}
            | {"mixer.in_proj.weight": "tw", "mixer.out_proj.weight": "wi"},
            {"backbone.embeddings.weight": "vw", "backbone.norm_f.weight": "w"}
            | {"lm_head.weight": "vw"},
            "backbone.layers.",
            i=128,
            s=16,
            t=256,
            x=36,
            v=288,
        ),
        _gpt2,
        pre="olmo",
        dtype="F32",
    ),
    "granitemoe": Folder(
        "granite-3.1-1b-a400m-instruct",
        _GRANITEMOE,
        table(_GRANITEMOE, ATTENTION | NORMS | _GRANITE_EXPERTS, e=4, g=64),
        _gpt2,
        pre="refact",
    ),
    "granitehybrid": Folder(
        "granite-4.0-h-tiny", _HYBRID, _hybrid(_HYBRID), _gpt2, pre="gpt-4o", raw=True
    ),
}
