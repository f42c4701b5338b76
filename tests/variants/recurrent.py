"""Tiny recurrent and hybrid models, made from the conformance set by changes.

The set's models have few heads and two layers. As in all variants weights here have a useful size,
so that every detail shows; layers follow each other in any order.

`data/variants_recurrent.npz` holds for each tokens (28,) and llama.cpp 0.5.0's logits (16, 128) of
the last 16 positions: 20 tokens in one batch, then 8 single ones; context 256, one thread, F32
cache, flash attention off.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiny import DATA, conformance_parts, write_gguf

from variants import variant_weights

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class RecurrentVariant:
    """Changes to a model of the conformance set.

    Attributes
    ----------
    base : str
        Its name there.
    layers : tuple of int
        The layers of the base that this model consists of.
    metadata : mapping
        New values of keys, without the architecture's prefix; None removes a key.
    tensors : mapping of str to shape
        Tensors to add or replace in layers that have one of the first name before "/", NumPy
        order: "ssm_in/ssm_x.weight" is ssm_x.weight of layers with some tensor ssm_in.
    without : str
        Regular expression of tensors of layers to leave out.
    """

    base: str
    layers: tuple[int, ...] = (0, 1)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    without: str = "$^"


def _experts(n: int, width: int) -> Shapes:
    return {
        "ffn_norm/ffn_gate_inp.weight": (n, 256),
        "ffn_norm/ffn_gate_exps.weight": (n, width, 256),
        "ffn_norm/ffn_up_exps.weight": (n, width, 256),
        "ffn_norm/ffn_down_exps.weight": (n, 256, width),
    }


def _mamba2(heads: int, groups: int, size: int) -> Shapes:
    wide = 512 + 2 * groups * size
    return {
        "ssm_in/ssm_in.weight": (512 + wide + heads, 256),
        "ssm_in/ssm_conv1d.weight": (wide, 4),
        "ssm_in/ssm_conv1d.bias": (wide,),
        "ssm_in/ssm_a": (heads, 1),
        "ssm_in/ssm_d": (heads, 1),
        "ssm_in/ssm_dt.bias": (heads,),
        "ssm_in/ssm_norm.weight": (groups, 512 // groups),
    }


def _sizes(heads: int, groups: int, size: int) -> dict[str, int]:
    return {"ssm.time_step_rank": heads, "ssm.group_count": groups, "ssm.state_size": size}


_PLAIN_FFN = r"ffn_(gate|up|down)\.(weight|bias|scale|input_scale)"
_GRANITE = {
    "attention.scale": 0.2,
    "embedding_scale": 3.0,
    "residual_scale": 0.4,
    "logit_scale": 2.5,
}
_THREE = np.array([0, 2, 0], np.uint32)  # key heads of layers that are recurrent, then not

RECURRENT_VARIANTS = {
    "mamba-normed": RecurrentVariant(
        "mamba-dense",
        metadata={"ssm.dt_b_c_rms": True, "ssm.state_size": 16, "ssm.time_step_rank": 16},
        tensors={
            "ssm_in/ssm_x.weight": (48, 512),
            "ssm_in/ssm_dt.weight": (512, 16),
            "ssm_in/ssm_a": (512, 16),
        },
    ),
    "mamba2-heads": RecurrentVariant(
        "mamba2-dense", (0, 1, 0), _sizes(8, 4, 32), _mamba2(8, 4, 32)
    ),
    "jamba-experts": RecurrentVariant(
        "jamba-dense",
        (1, 0, 1),
        {"attention.head_count": 2, "attention.head_count_kv": np.array([0, 1, 0], np.uint32)}
        | {"expert_count": 4, "expert_used_count": 2, "ssm.state_size": 16},
        {
            "ssm_in/ssm_x.weight": (34, 512),
            "ssm_in/ssm_a": (512, 16),
            "ssm_in/ssm_b_norm.weight": (16,),
            "ssm_in/ssm_c_norm.weight": (16,),
            "attn_k/attn_k.weight": (128, 256),
            "attn_k/attn_v.weight": (128, 256),
            "attn_k/attn_k.bias": (128,),
            "attn_k/attn_v.bias": (128,),
            **_experts(4, 384),
        },
        _PLAIN_FFN,
    ),
    "falcon-h1-heads": RecurrentVariant(
        "falcon-h1-dense.gqa",
        metadata={**_sizes(16, 1, 64), "rope.freq_base": 100.0},
        tensors=_mamba2(16, 1, 64),
        without=r"ssm_norm\.weight",
    ),
    "granitehybrid-scales": RecurrentVariant(
        "granitehybrid-dense",
        (1, 0, 1),
        {**_GRANITE, **_sizes(8, 1, 32), "rope.scaling.finetuned": False}
        | {"attention.head_count": 2, "attention.head_count_kv": _THREE},
        _mamba2(8, 1, 32),
    ),
    "granitehybrid-experts": RecurrentVariant(
        "granitehybrid-dense",
        (0, 1),
        {"attention.head_count": 2, "attention.head_count_kv": np.array([2, 0], np.uint32)}
        | {"expert_count": 8, "expert_used_count": 2, "expert_shared_feed_forward_length": 64}
        | {"residual_scale": 0.5, "logit_scale": 3.0},
        {
            **_experts(8, 384),
            "ffn_norm/ffn_gate_shexp.weight": (64, 256),
            "ffn_norm/ffn_up_shexp.weight": (64, 256),
            "ffn_norm/ffn_down_shexp.weight": (256, 64),
        },
        _PLAIN_FFN,
    ),
    "nemotron_h-network": RecurrentVariant(
        "nemotron_h-dense",
        (2, 1, 0),
        {"feed_forward_length": np.array([384, 0, 0], np.uint32)}
        | {"attention.head_count": 2, "attention.head_count_kv": np.array([0, 0, 2], np.uint32)},
    ),
    "nemotron_h_moe-latent": RecurrentVariant(
        "nemotron_h_moe-dense",
        (1, 0, 2),
        {"feed_forward_length": np.array([0, 0, 384], np.uint32)}
        | {"attention.head_count": 2, "attention.head_count_kv": _THREE}
        | {"expert_count": 8, "expert_used_count": np.array([1, 1, 3], np.uint32)}
        | {"expert_feed_forward_length": np.array([0, 0, 96], np.uint32)}
        | {"expert_shared_feed_forward_length": 64, "expert_weights_norm": True}
        | {"expert_weights_scale": 2.5, "moe_latent_size": 128, "expert_shared_count": 1},
        {
            "ffn_up/ffn_gate_inp.weight": (8, 256),
            "ffn_up/exp_probs_b.bias": (8,),
            "ffn_up/ffn_latent_down.weight": (128, 256),
            "ffn_up/ffn_latent_up.weight": (256, 128),
            "ffn_up/ffn_up_exps.weight": (8, 96, 128),
            "ffn_up/ffn_down_exps.weight": (8, 128, 96),
            "ffn_up/ffn_up_exps.scale": (8,),
            "ffn_up/ffn_down_exps.scale": (8,),
            "ffn_up/ffn_up_shexp.weight": (64, 256),
            "ffn_up/ffn_down_shexp.weight": (256, 64),
        },
        _PLAIN_FFN,
    ),
    "lfm2-windows": RecurrentVariant(
        "lfm2-dense",
        (1, 0, 1),
        {"attention.head_count": 2, "attention.head_count_kv": _THREE, "rope.freq_base": 100.0}
        | {"attention.sliding_window": 8, "attention.sliding_window_pattern": None},
    ),
    "lfm2moe-softmax": RecurrentVariant(
        "lfm2moe-moe.routed",
        (0, 1, 1),
        {"attention.head_count": 2, "attention.head_count_kv": np.array([2, 0, 0], np.uint32)}
        | {"expert_gating_func": 1},
    ),
    "plamo2-heads": RecurrentVariant(
        "plamo2-dense",
        (1, 0, 1),
        {"attention.head_count": 2, "attention.head_count_kv": np.array([0, 1, 0], np.uint32)}
        | {"ssm.time_step_rank": 8, "ssm.state_size": 32, "rope.freq_base": 100.0},
        {
            "ssm_in/ssm_x.weight": (128, 512),
            "ssm_in/ssm_dt.weight": (8, 64),
            "ssm_in/ssm_dt.bias": (8,),
            "ssm_in/ssm_a": (8,),
            "ssm_in/ssm_d": (8,),
            "ssm_in/ssm_b_norm": (32,),
            "ssm_in/ssm_c_norm": (32,),
            "attn_qkv/attn_qkv.weight": (512, 256),
            "attn_qkv/attn_k_norm.weight": (1, 128),
        },
    ),
    "minimax-01-heads": RecurrentVariant(
        "minimax-01-moe.routed",
        (0, 0, 1, 0),
        {"attention.recurrent_layers": np.array([1, 1, 0, 1], np.uint32)}
        | {"attention.head_count": 4, "attention.head_count_kv": 4, "residual_scale": 0.7}
        | {"attention.key_length": 64, "attention.value_length": 64, "rope.dimension_count": 32}
        | {"rope.freq_base": 100.0},
    ),
    "minimax-01-interval": RecurrentVariant(
        "minimax-01-moe.routed",
        (0, 1, 0, 1),
        {"attention.recurrent_layers": None, "full_attention_interval": 2}
        | {"residual_scale": 1.5},
    ),
}


def recurrent_model(name: str, path: str | os.PathLike[str]) -> Path:
    """Write the variant `name` to `path`, and return `path`."""
    variant, path = RECURRENT_VARIANTS[name], Path(path)
    metadata, shapes = conformance_parts(variant.base)
    prefix = metadata["general.architecture"]
    for key, value in {**variant.metadata, "block_count": len(variant.layers)}.items():
        metadata[f"{prefix}.{key}"] = value
    kept = {k: v for k, v in metadata.items() if v is not None}
    tensors = {key: _weights(key, shape) for key, shape in _layers(variant, shapes).items()}
    return write_gguf(path, kept, tensors)


def _layers(variant: RecurrentVariant, shapes: Shapes) -> Shapes:
    whole = {key: shape for key, shape in shapes.items() if not key.startswith("blk.")}
    for i, source in enumerate(variant.layers):
        start = f"blk.{source}."
        layer = {k.removeprefix(start): s for k, s in shapes.items() if k.startswith(start)}
        has = {key.split(".")[0] for key in layer}
        for key, shape in variant.tensors.items():
            of, _, tensor = key.partition("/")
            if of in has:
                layer[tensor] = shape
        kept = {k: s for k, s in layer.items() if not re.fullmatch(variant.without, k)}
        whole |= {f"blk.{i}.{key}": shape for key, shape in kept.items()}
    return whole


def _weights(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Weights of a useful size: decays below 0, norms of several parts around 1."""
    if name.endswith("_norm.weight") and len(shape) == 2:
        return variant_weights(name, (int(np.prod(shape)),)).reshape(shape)
    weights = variant_weights(name, shape)
    return -np.abs(weights) if name.endswith("ssm_a") else weights


def recurrent_golden(name: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Tokens (28,) and logits (16, 128) of the last 16 positions of the variant `name`."""
    with np.load(DATA / "variants_recurrent.npz") as golden:
        return golden[f"{name}/tokens"], golden[f"{name}/logits"]
