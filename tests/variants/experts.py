"""Variants of mixtures of experts; `variants` says how they are made."""

import numpy as np

from variants.variant import Variant

_YARN = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 8.0,
    "rope.scaling.original_context_length": 64,
}
_WINDOWS = {"attention.sliding_window": 8, "attention.sliding_window_pattern": None}
_PARTLY_TURNED = {"rope.dimension_count": 64, "rope.dimension_count_swa": 64}
_WEIGHTS = {"expert_weights_norm": True, "expert_weights_scale": 2.5}
_NO_SECTIONS = {"rope.dimension_sections": None}
_SECTIONS = {"rope.dimension_sections": np.array([24, 20, 20, 0], np.int32)}
_AFTER_DENSE = (0, 1, 1)

EXPERT_VARIANTS = {
    "qwen2moe": Variant("qwen2moe-moe.routed", {"rope.freq_base": 300.0}),
    "phimoe-long": Variant(
        "phimoe-moe.routed",
        {"rope.scaling.original_context_length": 16, "rope.scaling.attn_factor": 1.5},
        factors={
            "rope_factors_long.weight": (1.0, 9.0),
            "rope_factors_short.weight": (1.0, 2.0),
        },
    ),
    "dbrx-bounds": Variant("dbrx-moe.routed", {"attention.clamp_kqv": 1.5}),
    "olmoe": Variant("olmoe-moe.routed", {"rope.freq_base": 300.0}),
    "arctic": Variant("arctic-moe.routed"),
    "deepseek": Variant("deepseek-moe.routed", {"rope.freq_base": 300.0}, layers=_AFTER_DENSE),
    "bailingmoe": Variant("bailingmoe-moe.routed", _WEIGHTS | {"rope.freq_base": 300.0}),
    "bailingmoe2-groups": Variant(
        "bailingmoe2-moe.routed",
        _WEIGHTS | _PARTLY_TURNED | {"expert_group_count": 4, "expert_group_used_count": 2},
        layers=_AFTER_DENSE,
    ),
    "dots1": Variant("dots1-moe.routed", _WEIGHTS, layers=_AFTER_DENSE),
    "glm4moe": Variant(
        "glm4moe-moe.routed",
        _WEIGHTS | _PARTLY_TURNED | _NO_SECTIONS | {"nextn_predict_layers": 1},
        layers=(0, 1, 1, 1),  # the last is not of the model itself
        without=r".*scale$",
    ),
    "glm4moe-sections-bare": Variant(
        "glm4moe-moe.routed", _SECTIONS, layers=_AFTER_DENSE, without=r".*attn_[qk]_norm.*"
    ),
    "grok-caps": Variant(
        "grok-moe.routed",
        _YARN
        | {
            "attention.output_scale": 0.5,
            "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 4.0,
            "logit_scale": 0.5,
            "embedding_scale": 3.0,
            "rope.scaling.yarn_beta_fast": None,
        },
    ),
    "grok-experts-alone": Variant(
        "grok-moe.routed",
        {"logit_scale": None, "embedding_scale": None, "attention.output_scale": None},
        without=r".*ffn_(gate|up|down)\.|.*layer_output_norm.*",
        tensors={"blk.{i}.post_ffw_norm.weight": (256,)},
    ),
    "granitemoe": Variant(
        "granitemoe-moe.routed",
        {
            "attention.scale": 0.2,
            "residual_scale": 0.5,
            "embedding_scale": 3.0,
            "logit_scale": 4.0,
        },
        factors={"rope_freqs.weight": (1.0, 8.0)},
    ),
    "ernie4_5-moe": Variant(
        "ernie4_5-moe-moe.routed", {"interleave_moe_layer_step": 1}, layers=_AFTER_DENSE
    ),
    "hunyuan-moe": Variant("hunyuan-moe-moe.routed", {"rope.freq_base": 300.0}),
    "hy_v3": Variant("hy_v3-moe.routed", _WEIGHTS),
    "grovemoe-groups": Variant(
        "grovemoe-moe",
        {
            "expert_count": 8,
            "expert_used_count": 3,
            "experts_per_group": 2,
            "expert_group_scale": 0.5,
        },
        tensors={
            "blk.{i}.ffn_gate_inp.weight": (8, 256),
            "blk.{i}.ffn_gate_exps.weight": (8, 384, 256),
            "blk.{i}.ffn_up_exps.weight": (8, 384, 256),
            "blk.{i}.ffn_down_exps.weight": (8, 256, 384),
            "blk.{i}.ffn_gate_chexps.weight": (4, 128, 256),
            "blk.{i}.ffn_up_chexps.weight": (4, 128, 256),
            "blk.{i}.ffn_down_chexps.weight": (4, 256, 128),
        },
        without=r".*scale$",
    ),
    "minimax-m2": Variant("minimax-m2-moe.routed", _PARTLY_TURNED),
    "llada-moe": Variant("llada-moe-moe.routed"),
    "rnd1": Variant("rnd1-moe.routed"),
    "qwen3vlmoe-sections": Variant("qwen3vlmoe-moe.routed", _SECTIONS),
    "cohere2moe-windows": Variant(
        "cohere2moe-moe.routed",
        _WINDOWS | _WEIGHTS | {"logit_scale": 0.25, "rope.freq_base": 300.0},
        layers=(0, 1, 1, 1, 1),
    ),
    "cohere2moe-layer-norms": Variant(
        "cohere2moe-moe.routed",
        {
            "attention.layer_norm_rms_epsilon": None,
            "attention.sliding_window_pattern": None,
            "expert_shared_count": 0,
        },
        layers=(0, 1, 1),
        without=r".*_shexp.*",
    ),
    "exaone-moe-windows": Variant(
        "exaone-moe-moe.routed",
        _WINDOWS | _WEIGHTS | {"rope.freq_base_swa": 100.0},
        layers=(0, 1, 1, 1),
    ),
    "laguna-windows": Variant(
        "laguna-moe.routed",
        _WINDOWS | _WEIGHTS | _YARN | {"rope.freq_base_swa": 100.0, "rope.dimension_count_swa": 40},
        layers=(0, 1, 1, 1, 1),
    ),
    "laguna-gates-of-columns": Variant(
        "laguna-moe.routed",
        {"attention.sliding_window": None, "attention.sliding_window_pattern": None},
        layers=_AFTER_DENSE,
        tensors={"blk.{i}.attn_gate.weight": (160, 160)},
    ),
    "afmoe-windows": Variant(
        "afmoe-moe.routed",
        _WINDOWS | _WEIGHTS | {"rope.freq_base_swa": 100.0},
        layers=(0, 1, 1, 1),
    ),
    "mellum-windows": Variant("mellum-moe.routed", _WINDOWS | _YARN, n_layers=4),
    "maple-bounds": Variant(
        "maple-moe.routed",
        {
            "attention.sliding_window": 8,
            "rope.freq_base_swa": 100.0,
            "swiglu_clamp_exp": np.array([0.5, 0.0], np.float32),
        },
    ),
    "mimo2-windows": Variant(
        "mimo2-moe.routed",
        {
            "attention.sliding_window": 8,
            "attention.value_scale": 0.5,
            "attention.value_length": 64,
            "attention.value_length_swa": 64,
            "rope.freq_base_swa": 100.0,
            "rope.freq_base": 1000000.0,
        },
        tensors={
            "blk.{i}.attn_v.weight": (128, 256),
            "blk.{i}.attn_v.bias": (128,),
            "blk.{i}.attn_output.weight": (256, 128),
        },
    ),
    "llama4": Variant("llama4-moe.routed", {"rope.freq_base_swa": 100.0}, layers=(0, 1, 0, 1)),
    "gpt-oss-windows": Variant("gpt-oss-moe.routed", _WINDOWS | _YARN, n_layers=3),
}
