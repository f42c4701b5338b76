"""Tiny models with delta nets, made from the conformance set by changes.

The set's models have heads as many as key heads, often one, and two layers. As in all variants
weights here have a useful size, so that every detail shows; layers follow each other in any order.

`data/variants_delta.npz` holds for each tokens (28,) and llama.cpp 0.5.0's logits (16, 128) of the
last 16 positions: 20 tokens in one batch, then 8 single ones; context 256, one thread, F32 cache,
flash attention off.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiny import DATA, conformance_parts, conformance_weights, write_gguf

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class DeltaVariant:
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
        Shapes of tensors in layers that have such a one, NumPy order.
    without : str
        Regular expression of tensors to leave out.
    rows : slice
        Those of the 16 logits to compare.
    """

    base: str
    layers: tuple[int, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    without: str = "$^"
    rows: slice = field(default_factory=lambda: slice(None))


# Positions at whose index llama.cpp chooses whole blocks of 4: it always chooses 3 positions more
# than the blocks have, which are those behind the last whole block, if these are 3.
_WHOLE = slice(2, None, 4)
# Four heads of 64 columns with two key heads; attention with four heads and two key heads of 64.
_HEADS: dict[str, Any] = {
    "ssm.inner_size": 256,
    "ssm.state_size": 64,
    "ssm.time_step_rank": 4,
    "ssm.group_count": 2,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.key_length": 64,
    "attention.value_length": 64,
    "rope.dimension_count": 32,
    "rope.freq_base": 100.0,
}
_HEAD_TENSORS: Shapes = {
    "ssm_norm.weight": (64,),
    "ssm_dt.bias": (4,),
    "ssm_a": (4,),
    "ssm_ba.weight": (8, 256),
    "ssm_alpha.weight": (4, 256),
    "ssm_beta.weight": (4, 256),
    "ssm_conv1d.weight": (512, 4),
    "ssm_in.weight": (768, 256),
    "attn_q_norm.weight": (64,),
    "attn_k_norm.weight": (64,),
    "attn_k.weight": (128, 256),
    "attn_v.weight": (128, 256),
    "attn_k.bias": (128,),
    "attn_v.bias": (128,),
}
_DELTA_QKV: Shapes = {"attn_qkv.weight": (512, 256)}

# Two heads in every layer, of 128 columns in delta attention, of 192 and 128 in latent attention.
_TWO: Shapes = {
    "attn_q_b.weight": (384, 512),
    "attn_k_b.weight": (2, 512, 128),
    "attn_v_b.weight": (2, 128, 512),
    "attn_output.weight": (128, 256),
    "attn_k.weight": (256, 128),
    "attn_v.weight": (256, 128),
    "attn_k.bias": (256,),
    "attn_v.bias": (256,),
    "ssm_conv1d_q.weight": (256, 1, 4),
    "ssm_conv1d_k.weight": (256, 1, 4),
    "ssm_conv1d_v.weight": (256, 1, 4),
    "ssm_f_b.weight": (256, 128),
    "ssm_g_b.weight": (256, 128),
    "ssm_g.weight": (256, 128),
    "ssm_beta.weight": (2, 128),
    "ssm_dt.bias": (256,),
    "ssm_a": (2,),
}


def _two(n_layers: int) -> dict[str, Any]:
    """The first layer has latent attention, the others have delta attention."""
    return {
        "attention.head_count": 2,
        "attention.head_count_kv": np.array([1] + [0] * (n_layers - 1), np.uint32),
        "expert_weights_scale": 2.4,
    }


DELTA_VARIANTS = {
    "qwen3next-heads": DeltaVariant(
        "qwen3next-moe.routed",
        (0, 0, 1, 0),
        _HEADS
        | {"attention.recurrent_layers": None, "full_attention_interval": 3}
        | {"expert_weights_scale": 1.5},
        _HEAD_TENSORS | _DELTA_QKV,
        without=r".*ssm_in\..*",
    ),
    "qwen3next-one-matrix": DeltaVariant(
        "qwen3next-moe",
        (0, 1, 0),
        _HEADS | {"attention.recurrent_layers": np.array([1, 0, 1], np.uint32)},
        _HEAD_TENSORS,
        without=r"blk\.\d+\.attn_(qkv|gate)\..*",
    ),
    "qwen35-heads": DeltaVariant(
        "qwen35-dense",
        (0, 1, 0),
        _HEADS
        | {"attention.recurrent_layers": np.array([1, 0, 1], np.uint32)}
        | {"rope.dimension_sections": np.array([6, 5, 5, 0], np.int32)},
        _HEAD_TENSORS | _DELTA_QKV,
    ),
    "qwen35-still-pairs": DeltaVariant(
        "qwen35-dense",
        (1, 0),
        _HEADS
        | {"attention.recurrent_layers": np.array([0, 1], np.uint32)}
        | {"rope.dimension_sections": np.array([3, 4, 2, 7], np.int32)},
        _HEAD_TENSORS | _DELTA_QKV,
    ),
    "qwen35moe-heads": DeltaVariant(
        "qwen35moe-moe.routed",
        (0, 0, 0, 1),
        _HEADS
        | {"attention.recurrent_layers": None}
        | {"rope.dimension_sections": np.array([6, 5, 5, 0], np.int32)},
        _HEAD_TENSORS | _DELTA_QKV,
    ),
    "kimi-linear-heads": DeltaVariant(
        "kimi-linear-moe.routed",
        (0, 1, 1),
        _two(3),
        _TWO | {"ssm_a": (2, 1)},
    ),
    "bailingmoe3-limits": DeltaVariant(
        "bailingmoe3-moe.routed",
        (0, 1, 1),
        _two(3)
        | {
            "swiglu_clamp_exp": np.array([0, 0.3, 0.4], np.float32),
            "swiglu_clamp_shexp": np.array([0.5, 0.25, 0], np.float32),
            "rope.freq_base": 100.0,
            "expert_weights_norm": True,
        },
        _TWO
        | {"ssm_f_a.weight": (256, 128), "ssm_g_a.weight": (256, 128)}
        | {"attn_gate.weight": (2, 128), "ssm_a": (2, 1)},
    ),
    "bailingmoe3-text": DeltaVariant(
        "bailingmoe3-moe",
        (0, 1),
        _two(2)
        | {"rope.dimension_sections": np.array([0, 0, 0, 0], np.int32), "rope.freq_base": 100.0},
        _TWO
        | {"ssm_f_a.weight": (256, 128), "ssm_g_a.weight": (256, 128)}
        | {"attn_gate.weight": (2, 128), "ssm_a": (2, 1)},
    ),
    "kimi-k3-blocks": DeltaVariant(
        "kimi-k3-moe.routed",
        (0, 1, 1, 1, 1),
        _two(5)
        | {
            "attn_res.block_size": 2,
            "activation.situ_beta": 0.8,
            "activation.situ_linear_beta": 1.5,
            "expert_weights_norm": True,
        },
        _TWO | {"attn_gate.weight": (256, 128)},
    ),
    "kimi-k3-one-sum": DeltaVariant(
        "kimi-k3-moe",
        (0, 1),
        _two(2)
        | {"kda.gate_lower_bound": None, "attn_res.block_size": 0}
        | {"activation.situ_linear_beta": 0.0, "activation.situ_beta": 0.8},
        _TWO | {"attn_gate.weight": (256, 128)},
        without=r".*_res_score\.weight",
    ),
    "qwen4exp-ends": DeltaVariant(
        "qwen4exp-moe.routed",
        (0, 1, 0),
        _HEADS
        | {
            "attention.recurrent_layers": np.array([1, 0, 1], np.uint32),
            "attention.compress_ratios": np.array([4, 4, 4], np.uint32),
            "rope.dimension_sections": np.array([6, 5, 5, 0], np.int32),
            "ple.eos_token_id": 5,
            "ple.layer_multipliers": np.array([2**62 + 3, 9876543210987, 5], np.uint64),
            "ple.head_vocab_sizes": np.array([120, 100, 128, 90], np.uint64),
        },
        _HEAD_TENSORS | _DELTA_QKV,
    ),
    "qwen4exp-chosen": DeltaVariant(
        "qwen4exp-moe.routed",
        (0, 0, 1),
        _HEADS
        | {
            "attention.recurrent_layers": np.array([1, 1, 0], np.uint32),
            "attention.compress_ratios": np.array([4, 4, 4], np.uint32),
            "attention.indexer.head_count": 12,
            "attention.indexer.key_length": 64,
            "attention.indexer.top_k": 8,
            "rope.dimension_sections": np.array([6, 5, 5, 0], np.int32),
        },
        _HEAD_TENSORS
        | _DELTA_QKV
        | {
            "indexer.q_proj.weight": (12 * 64, 256),
            "indexer.k_proj.weight": (64, 256),
            "indexer.q_norm.weight": (64,),
            "indexer.k_norm.weight": (64,),
        },
        rows=_WHOLE,
    ),
    "glm5-next-chosen": DeltaVariant(
        "glm5-next-moe.routed",
        (0, 0, 1),
        _two(3)
        | {
            "leading_dense_block_count": 2,
            "attention.head_count_kv": np.array([1, 1, 0], np.uint32),
            "attention.indexer.head_count": 5,
            "attention.indexer.top_k": 8,
            "attention.indexer.types": np.array([1, 0, 1], np.int32),
        },
        _TWO
        | {
            "attn_k_b.weight": (2, 512, 192),
            "indexer.proj.weight": (5, 128),
            "indexer.attn_q_b.weight": (5 * 128, 512),
        },
        without=r"blk\.1\.indexer.*",
    ),
    "glm5-next-streams": DeltaVariant(
        "glm5-next-moe.routed",
        (0, 1, 1),
        _two(3)
        | {
            "swiglu_clamp_exp": np.array([0, 0.3, 0.4], np.float32),
            "swiglu_clamp_shexp": np.array([0.5, 0.25, 0], np.float32),
            "hyper_connection.sinkhorn_iterations": 3,
            "expert_weights_norm": True,
        },
        _TWO | {"attn_k_b.weight": (2, 512, 192)},
    ),
}
_ONE_LAYER = r"blk\.(\d+)\.ple_"  # these tensors belong to layer 0 alone


def delta_model(name: str, path: str | os.PathLike[str]) -> Path:
    """Write the variant `name` to `path`, and return `path`."""
    variant, path = DELTA_VARIANTS[name], Path(path)
    metadata, shapes = conformance_parts(variant.base)
    prefix = metadata["general.architecture"]
    for key, value in {"block_count": len(variant.layers), **variant.metadata}.items():
        metadata[f"{prefix}.{key}"] = value
    for key in ("swiglu_clamp_exp", "swiglu_clamp_shexp"):
        if key not in variant.metadata:
            metadata[f"{prefix}.{key}"] = np.zeros(len(variant.layers), np.float32)
    kept = {k: v for k, v in metadata.items() if v is not None}
    layers = _layers(variant, shapes)
    return write_gguf(path, kept, {key: _weights(key, shape) for key, shape in layers.items()})


def _layers(variant: DeltaVariant, shapes: Shapes) -> Shapes:
    whole = {k: s for k, s in shapes.items() if not re.match(rf"blk\.|{variant.without}", k)}
    for i, source in enumerate(variant.layers):
        start = f"blk.{source}."
        for key, shape in shapes.items():
            tensor = key.removeprefix(start)
            name = f"blk.{i}.{tensor}"
            if key == tensor or re.fullmatch(variant.without, name) or "input_scale" in key:
                continue
            if re.match(_ONE_LAYER, name) and i:
                continue
            whole[name] = _changed(variant, shapes, source, tensor, shape)
    return whole


def _changed(
    variant: DeltaVariant, shapes: Shapes, source: int, tensor: str, shape: tuple[int, ...]
) -> tuple[int, ...]:
    """The queries of delta attention and of latent attention have one name and two shapes."""
    if tensor in ("attn_q.weight", "attn_q.bias") and variant.tensors.get("ssm_a", (4,))[0] == 2:
        is_latent = f"blk.{source}.attn_kv_a_mqa.weight" in shapes
        return (2 * (192 if is_latent else 128), *shape[1:])
    return variant.tensors.get(tensor, shape)


def _weights(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Random weights of a useful size, from the normal numbers that the conformance set uses."""
    normal = conformance_weights(name, shape) * np.float32(10)
    if name.endswith("ssm_a"):
        weights: NDArray[np.float32] = -np.abs(normal) - np.float32(0.1)
        return weights
    if len(shape) == 1 or "_norm" in name:
        centre = 0 if name.endswith(".bias") else 1
        return np.float32(centre) + normal * np.float32(0.2)
    if name == "token_embd.weight":
        return normal
    gain = 2 if re.search(r"attn_(q|k|qkv|gate)\.|ple_", name) else 1
    return normal * np.float32(gain / np.sqrt(shape[-1]))


def delta_golden(name: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Tokens (28,) and logits (16, 128) of the last 16 positions of the variant `name`."""
    with np.load(DATA / "variants_delta.npz") as golden:
        return golden[f"{name}/tokens"], golden[f"{name}/logits"]
