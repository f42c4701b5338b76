"""Variants of dense architectures, one or more for each; `variants` says how they are made."""

import numpy as np

from variants.variant import Variant

_NO_SCALES = r".*scale$"
_WINDOWS = {"attention.sliding_window": 8, "rope.freq_base_swa": 100.0}
_GRANITE = {
    "attention.scale": 0.2,
    "embedding_scale": 3.0,
    "residual_scale": 0.4,
    "logit_scale": 2.5,
}
_FACTORS = {"rope_freqs.weight": (1.0, 8.0)}
_ALTERNATING = np.array([0, 1, 1, 0], np.uint32)


DENSE_VARIANTS = {
    "gemma2-windows": Variant(
        "gemma2-dense.gqa",
        _WINDOWS
        | {
            "attention.sliding_window_pattern": None,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
        n_layers=4,
    ),
    "chatglm-half-turned": Variant("chatglm-dense.gqa", {"rope.dimension_count": 64}),
    "glm4-sections": Variant("glm4-dense.gqa"),
    "glm4-no-sections": Variant(
        "glm4-dense",
        {"rope.dimension_sections": np.zeros(4, np.int32), "rope.dimension_count": 64},
    ),
    "arcee": Variant("arcee-dense.gqa", factors=_FACTORS),
    "nemotron-half-turned": Variant("nemotron-dense.gqa", {"rope.dimension_count": 64}),
    "plamo": Variant("plamo-dense.gqa"),
    "plamo3-windows": Variant(
        "plamo3-dense.gqa",
        _WINDOWS
        | {"attention.sliding_window_pattern": 3, "rope.freq_base": 500.0}
        | {"rope.scaling.factor": 2.0},
        n_layers=4,
    ),
    "maincoder": Variant("maincoder-dense.gqa"),
    "talkie": Variant("talkie-dense.gqa", {"logit_scale": 2.0}),
    "deci": Variant("deci-dense.gqa", factors=_FACTORS),
    "deci-layers-lack-parts": Variant(
        "deci-dense.gqa",
        {
            "attention.head_count": np.array([2, 2, 0, 0, 2], np.uint32),
            "attention.head_count_kv": np.array([1, 0, 0, 0, 1], np.uint32),
            "feed_forward_length": np.array([384, 384, 384, 0, 384], np.uint32),
        },
        n_layers=5,
        without=rf"blk\.1\.attn_[qkv]\.|blk\.2\.attn_|blk\.3\.|{_NO_SCALES}",
    ),
    "granite-scales": Variant("granite-dense.gqa", _GRANITE, factors=_FACTORS),
    "granite-no-rope-experts": Variant(
        "granite-moe.routed", _GRANITE | {"rope.scaling.finetuned": False}
    ),
    "granite_swa-windows": Variant(
        "granite_swa-dense.gqa",
        _GRANITE
        | {
            "attention.sliding_window": 8,
            "attention.sliding_window_pattern": _ALTERNATING,
            "attention.rope_pattern": np.array([1, 1, 0, 1], np.uint32),
        },
        n_layers=4,
    ),
    "granite_swa-fused-experts": Variant(
        "granite_swa-dense",
        _GRANITE
        | {
            "attention.sliding_window": 8,
            "expert_count": 8,
            "expert_used_count": 2,
            "expert_shared_feed_forward_length": 192,
        },
        without=r".*(ffn_(gate|up|down)\.|scale)",
        tensors={
            "blk.{i}.ffn_gate_inp.weight": (8, 256),
            "blk.{i}.ffn_gate_up_exps.weight": (8, 768, 256),
            "blk.{i}.ffn_down_exps.weight": (8, 256, 384),
            "blk.{i}.ffn_up_shexp.weight": (384, 256),
            "blk.{i}.ffn_down_shexp.weight": (256, 192),
        },
    ),
    "seed_oss": Variant("seed_oss-dense.gqa"),
    "ernie4_5": Variant("ernie4_5-moe.gqa"),
    "hunyuan_vl-alpha": Variant("hunyuan_vl-dense.gqa", {"rope.scaling.alpha": 4.0}),
    "hunyuan-dense": Variant(
        "hunyuan-dense-dense.gqa",
        {"rope.dimension_sections": np.zeros(4, np.int32), "rope.scaling.alpha": 50.0},
    ),
    "pangu-embedded": Variant("pangu-embedded-dense.gqa", factors=_FACTORS),
    "nanbeige-three-loops": Variant(
        "nanbeige-dense.gqa", {"num_loops": 3}, without=_NO_SCALES, factors=_FACTORS
    ),
    "nanbeige-no-norm": Variant(
        "nanbeige-dense", {"num_loops": 2, "skip_loop_final_norm": True}, without=_NO_SCALES
    ),
    "hrm_text": Variant(
        "hrm_text-dense.gqa",
        {"embedding_scale": 3.0},
        n_layers=6,
        without=rf"blk\.[2-5]\.|{_NO_SCALES}",
    ),
    "hrm_text-two-layers": Variant(
        "hrm_text-dense",
        {"hrm.layers_per_stack": 2, "hrm.h_cycles": 1},
        n_layers=6,
        without=rf"blk\.[45]\.|{_NO_SCALES}",
    ),
    "minicpm3-parts": Variant(
        "minicpm3-dense",
        {"rope.dimension_count": 32, "rope.scaling.original_context_length": 64},
        without=r"rope_factors",
        tensors={
            "blk.{i}.attn_kv_a_mqa.weight": (544, 256),
            "blk.{i}.attn_kv_b.weight": (448, 512),
            "rope_factors_long.weight": (16,),
            "rope_factors_short.weight": (16,),
        },
        factors={
            "rope_factors_long.weight": (1.0, 9.0),
            "rope_factors_short.weight": (1.0, 2.0),
        },
    ),
    "openelm-layers-differ": Variant(
        "openelm-dense",
        {
            "attention.head_count": np.array([2, 4], np.uint32),
            "attention.head_count_kv": np.array([2, 1], np.uint32),
            "feed_forward_length": np.array([384, 256], np.uint32),
        },
        tensors={
            "blk.1.attn_qkv.weight": (768, 256),
            "blk.1.attn_output.weight": (256, 512),
            "blk.1.ffn_gate.weight": (256, 256),
            "blk.1.ffn_up.weight": (256, 256),
            "blk.1.ffn_down.weight": (256, 256),
        },
    ),
    "smallthinker-five-layers": Variant(
        "smallthinker-moe.routed",
        {"attention.sliding_window_pattern": None, "rope.freq_base_swa": 100.0}
        | {"expert_gating_func": 1},
        n_layers=5,
    ),
    "smallthinker-no-windows": Variant(
        "smallthinker-moe.gqa", {"attention.sliding_window": 0}, n_layers=3
    ),
    "spark2_5-windows": Variant(
        "spark2_5-dense.gqa",
        _WINDOWS
        | {
            "attention.sliding_window_pattern": _ALTERNATING,
            "rope.dimension_count_swa": 64,
        },
        n_layers=4,
    ),
    "muse-glimmer-windows": Variant(
        "muse-glimmer-dense",
        _WINDOWS
        | {"attention.sliding_window_pattern": None, "logit_scale": 0.5}
        | {"rope.scaling.factor": 4.0, "final_logit_softcapping": 2.0},
        n_layers=5,
    ),
    "cogvlm": Variant("cogvlm-dense", {"rope.freq_base": 500.0}),
    "qwen2vl": Variant("qwen2vl-dense.gqa"),
    "qwen3vl": Variant("qwen3vl-dense.gqa"),
    "pockettts": Variant("pockettts-dense.gqa"),
    "paddleocr": Variant("paddleocr-moe.gqa"),
}
