"""Variants of the dense decoders from GPT-2 to EXAONE 4; `variants` says how they are made."""

from variants.variant import Variant

_PARTLY_TURNED = {"rope.dimension_count": 64}
_SIX_HEADS = {
    "attention.head_count": 6,
    "attention.head_count_kv": 2,
    "attention.key_length": 32,
    "attention.value_length": 32,
    "rope.dimension_count": 32,
}
_WINDOWS = {"attention.sliding_window": 8, "attention.sliding_window_pattern": None}
# Sizes of models whose form goes by their many layers.
_SMALL = {
    "embedding_length": 32,
    "feed_forward_length": 32,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.key_length": 8,
    "attention.value_length": 8,
    "rope.dimension_count": 8,
}
_SMALL_SHAPES = {
    "token_embd.weight": (128, 32),
    "output_norm.weight": (32,),
    "blk.{i}.attn_q.weight": (32, 32),
    "blk.{i}.attn_k.weight": (16, 32),
    "blk.{i}.attn_v.weight": (16, 32),
    "blk.{i}.attn_output.weight": (32, 32),
    "blk.{i}.ffn_gate.weight": (32, 32),
    "blk.{i}.ffn_up.weight": (32, 32),
    "blk.{i}.ffn_down.weight": (32, 32),
}
_NORMS_BEFORE = {"blk.{i}.attn_norm.weight": (32,), "blk.{i}.ffn_norm.weight": (32,)}
_NORMS_BEHIND = {
    "blk.{i}.attn_q_norm.weight": (8,),
    "blk.{i}.attn_k_norm.weight": (8,),
    "blk.{i}.post_attention_norm.weight": (32,),
    "blk.{i}.post_ffw_norm.weight": (32,),
}
_NORMS_OF_HEADS = {
    "blk.{i}.attn_norm.weight": (32,),
    "blk.{i}.attn_q_norm.weight": (4, 8),
    "blk.{i}.attn_k_norm.weight": (2, 8),
}
_UNUSED = r".*bias$|.*scale$|rope_freqs.*"
_FACTORS = {"rope_freqs.weight": (1.0, 8.0)}
_MINICPM = {"embedding_scale": 3.0, "residual_scale": 0.4, "logit_scale": 2.5}
_NO_POSITIONS = r"position_embd.*|.*act\.scales|.*attn_k_norm.*"

DECODER_VARIANTS = {
    "falcon-7b": Variant("falcon-dense.gqa", without=r".*attn_norm_2.*"),
    "falcon-40b": Variant("falcon-dense.gqa"),
    "gpt2": Variant("gpt2-dense"),
    "gptneox-sequential": Variant("gptneox-dense", _PARTLY_TURNED),
    "gptneox-parallel": Variant("gptneox-dense", _PARTLY_TURNED | {"use_parallel_residual": True}),
    "mpt-alibi": Variant("mpt-dense", {"attention.clamp_kqv": 0.0}, without=_NO_POSITIONS),
    "mpt-positions-bounds-scales": Variant(
        "mpt-dense", {"attention.max_alibi_bias": 0.0, "attention.clamp_kqv": 1.5}
    ),
    "starcoder": Variant("starcoder-dense.gqa"),
    "starcoder2": Variant("starcoder2-dense.gqa"),
    "refact-six-heads": Variant(
        "refact-dense.gqa",
        _SIX_HEADS,
        without=r".*scale$|rope_freqs.*",
        tensors={
            "blk.{i}.attn_q.weight": (192, 256),
            "blk.{i}.attn_q.bias": (192,),
            "blk.{i}.attn_k.weight": (64, 256),
            "blk.{i}.attn_k.bias": (64,),
            "blk.{i}.attn_v.weight": (64, 256),
            "blk.{i}.attn_v.bias": (64,),
            "blk.{i}.attn_output.weight": (256, 192),
        },
    ),
    "bloom": Variant("bloom-dense.gqa"),
    "jais": Variant("jais-dense.gqa"),
    "jais2": Variant("jais2-dense.gqa"),
    "phi2-partly-turned": Variant("phi2-dense.gqa", _PARTLY_TURNED),
    "command-r": Variant("command-r-dense.gqa", {"logit_scale": 0.25, "rope.freq_base": 300.0}),
    "stablelm": Variant("stablelm-dense", _PARTLY_TURNED),
    "stablelm-parallel": Variant(
        "stablelm-dense", _PARTLY_TURNED, without=r".*(ffn_norm|attn_[qk]_norm).*"
    ),
    "codeshell": Variant("codeshell-dense.gqa"),
    "qwen": Variant("qwen-dense"),
    "orion": Variant("orion-dense.gqa"),
    "xverse": Variant("xverse-dense.gqa", {"rope.freq_base": 300.0}),
    "internlm2": Variant("internlm2-dense.gqa", {"rope.scaling.factor": 4.0}),
    "minicpm": Variant("minicpm-dense.gqa", _MINICPM, factors=_FACTORS),
    "minicpm-routed": Variant("minicpm-moe.routed", _MINICPM),
    "gemma": Variant("gemma-dense.gqa"),
    "dream": Variant("dream-dense.gqa"),
    "llada": Variant("llada-dense.gqa", factors=_FACTORS),
    "cohere2-windows": Variant(
        "cohere2-dense.gqa",
        _WINDOWS | {"logit_scale": 0.25, "rope.freq_base_swa": 100.0},
        n_layers=5,
    ),
    "olmo-bounds": Variant("olmo-dense.gqa", {"attention.clamp_kqv": 1.5}),
    "olmo2": Variant("olmo2-dense.gqa", {"attention.sliding_window": 0}),
    "olmo2-windows": Variant(
        "olmo2-dense.gqa",
        _WINDOWS
        | {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 8.0,
            "rope.scaling.original_context_length": 64,
        },
        n_layers=4,
    ),
    "exaone-factors": Variant("exaone-dense.gqa", factors=_FACTORS),
    "exaone4-factors": Variant("exaone4-dense.gqa", factors=_FACTORS),
    "baichuan-13b": Variant(
        "baichuan-dense",
        _SMALL,
        n_layers=40,
        without=_UNUSED,
        tensors=_SMALL_SHAPES | _NORMS_BEFORE | {"output.weight": (128, 32)},
    ),
    "exaone4-32b": Variant(
        "exaone4-dense",
        _SMALL
        | _WINDOWS
        | {
            "attention.key_length_swa": 8,
            "attention.value_length_swa": 8,
            "rope.dimension_count_swa": 8,
        },
        n_layers=64,
        without=_UNUSED,
        tensors=_SMALL_SHAPES | _NORMS_BEHIND | {"output.weight": (128, 32)},
    ),
    "command-r-plus": Variant(
        "command-r-dense",
        _SMALL | {"logit_scale": 0.25},
        n_layers=64,
        without=_UNUSED,
        tensors=_SMALL_SHAPES | _NORMS_OF_HEADS,
    ),
}
