"""Tiny models with latent or sparse attention, made from the conformance set by changes.

The set's models have one head, no stretched rope, and an index that chooses every position. As in
all variants weights here have a useful size, so that every detail shows.

`data/latent_variants.npz` holds for each tokens (28,), or more, and llama.cpp 0.5.0's logits (16,
128) of the last 16 positions: all tokens but 8 in one batch, then single ones; context 256, one
thread, F32 cache, flash attention off unless the variant needs it.
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


@dataclass(frozen=True)
class LatentVariant:
    """Changes to a model of the conformance set.

    Attributes
    ----------
    base : str
        Its name there.
    metadata : mapping
        New values of keys, without the architecture's prefix.
    tensors : mapping of str to shape
        Tensors to add or replace, NumPy order; "{i}" in a name makes one for each layer.
    without : str
        Regular expression of tensors to leave out.
    flash : bool
        Whether llama.cpp ran with flash attention.
    n_tokens : int
        All but the last 8 are one batch.
    """

    base: str
    metadata: Mapping[str, Any]
    tensors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    without: str = "$^"
    flash: bool = False
    n_tokens: int = 28


_YARN = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 8.0,
    "rope.scaling.original_context_length": 64,
}


def _heads(i: str, n: int, k: int = 128, v: int = 128, rank: int = 512) -> dict[str, Any]:
    """Matrices of n heads with keys of k + 64 columns and values of v."""
    return {
        f"blk.{i}.attn_q_b.weight": (n * (k + 64), 512),
        f"blk.{i}.attn_k_b.weight": (n, rank, k),
        f"blk.{i}.attn_v_b.weight": (n, v, rank),
        f"blk.{i}.attn_output.weight": (128, n * v),
    }


_INDEX_OF_16 = {
    "blk.0.indexer.proj.weight": (16, 128),
    "blk.0.indexer.attn_q_b.weight": (16 * 128, 512),
    "blk.1.indexer.proj.weight": (16, 128),
    "blk.1.indexer.attn_q_b.weight": (16 * 128, 512),
}
_CHOICE = {"attention.indexer.head_count": 16, "attention.indexer.top_k": 8}
VARIANTS = {
    "deepseek2-yarn-groups": LatentVariant(
        "deepseek2-moe.routed",
        _YARN
        | {
            "attention.head_count": 4,
            "rope.scaling.yarn_log_multiplier": 0.0707,
            "expert_group_count": 4,
            "expert_group_used_count": 2,
            "expert_weights_norm": True,
            "expert_weights_scale": 2.5,
        },
        _heads("{i}", 4),
    ),
    "deepseek2-in-full": LatentVariant(
        "deepseek2-moe.routed",
        _YARN
        | {
            "attention.head_count": 4,
            "attention.head_count_kv": 4,
            "attention.q_lora_rank": 0,
            "attention.key_length": 192,
            "attention.value_length": 128,
            "attention.key_length_mla": 0,
            "attention.value_length_mla": 0,
            "expert_gating_func": 1,
        },
        {
            "blk.{i}.attn_q.weight": (4 * 192, 128),
            "blk.{i}.attn_kv_b.weight": (4 * 256, 512),
            "blk.{i}.attn_output.weight": (128, 512),
        },
        without=r".*attn_(q_a|q_b|k_b|v_b)",
    ),
    "deepseek2-linear": LatentVariant(
        "deepseek2-moe",
        {"attention.head_count": 2, "rope.scaling.factor": 4.0},
        _heads("{i}", 2),
    ),
    "mistral4-temperature": LatentVariant(
        "mistral4-moe.routed",
        _YARN
        | {
            "attention.head_count": 4,
            "rope.scaling.yarn_log_multiplier": 0.08,
            "attention.temperature_scale": 0.5,
            "attention.temperature_length": 8,
        },
        _heads("{i}", 4),
    ),
    "deepseek32-chosen": LatentVariant(
        "deepseek32-moe.routed",
        _YARN | _CHOICE | {"attention.head_count": 4, "rope.scaling.yarn_log_multiplier": 0.08},
        _heads("{i}", 4) | _INDEX_OF_16,
    ),
    "glm-dsa-shared": LatentVariant(
        "glm-dsa-moe.routed",
        _CHOICE
        | {"attention.head_count": 4, "attention.indexer.types": np.array([1, 0], np.int32)},
        _heads("{i}", 4) | _INDEX_OF_16,
        without=r"blk\.1\.indexer",
    ),
    "dots3note-windows": LatentVariant(
        "dots3note-moe.routed",
        _CHOICE
        | {
            "attention.head_count": 2,
            "attention.sliding_window": 8,
            "rope.freq_base_swa": 100.0,
            "attention.kv_lora_rank_swa": 256,
            "attention.key_length_mla_swa": 128,
            "attention.value_length_mla_swa": 64,
            "attention.key_length_swa": 320,
            "attention.value_length_swa": 256,
        },
        _heads("0", 2)
        | _heads("1", 2, 64, 64, 256)
        | _INDEX_OF_16
        | {
            "blk.{i}.attn_gate.weight": (2, 128),
            "blk.1.attn_kv_a_mqa.weight": (320, 128),
            "blk.1.attn_kv_a_norm.weight": (256,),
        },
        without=r"blk\.1\.indexer",
    ),
    "hy_v4-shared": LatentVariant(
        "hy_v4-moe.routed",
        _CHOICE
        | {
            "attention.head_count": 4,
            "swiglu_clamp_exp": np.array([0.5, 0.5], np.float32),
            "hyper_connection.count": 3,
        },
        _heads("{i}", 4)
        | _INDEX_OF_16
        | {
            "blk.{i}.attn_gate.weight": (512, 128),
            "blk.{i}.attn_sinks.weight": (4,),
            "blk.{i}.hc_attn_fn.weight": (6, 384),
            "blk.{i}.hc_attn_base.weight": (6,),
            "blk.{i}.hc_ffn_fn.weight": (6, 384),
            "blk.{i}.hc_ffn_base.weight": (6,),
            "output_hc_fn.weight": (3, 384),
            "output_hc_base.weight": (3,),
        },
        without=r"blk\.1\.indexer",
    ),
    "deepseek4-compressed": LatentVariant(
        "deepseek4-moe.routed",
        _YARN
        | {
            "attention.indexer.head_count": 16,
            "attention.indexer.top_k": 4,
            "attention.sliding_window": 8,
            "swiglu_clamp_exp": np.full(4, 0.5, np.float32),
            "swiglu_clamp_shexp": np.full(4, 0.7, np.float32),
            "hyper_connection.sinkhorn_iterations": 3,
        },
        {
            "blk.2.indexer.proj.weight": (16, 512),
            "blk.2.indexer.attn_q_b.weight": (16 * 128, 64),
        },
        n_tokens=145,
    ),
    "deepseek4-hashed": LatentVariant(  # in two layers the token alone chooses the experts
        "deepseek4-moe.routed",
        {"hash_layer_count": 2, "expert_weights_scale": 1.5, "attention.sliding_window": 8},
        {f"blk.{i}.ffn_gate_tid2eid.weight": (128, 2) for i in range(2)},
        without=r"blk\.[01]\.exp_probs_b\.bias",
    ),
    "minimax-m3-blocks": LatentVariant(
        "minimax-m3-moe.routed",
        {
            "attention.head_count": 4,
            "attention.head_count_kv": 2,
            "attention.indexer.head_count": 2,
            "attention.indexer.top_k": 3,
            "attention.indexer.block_size": 4,
        },
        {
            "blk.{i}.attn_q.weight": (512, 256),
            "blk.{i}.attn_q.bias": (512,),
            "blk.{i}.attn_k.weight": (256, 256),
            "blk.{i}.attn_k.bias": (256,),
            "blk.{i}.attn_v.weight": (256, 256),
            "blk.{i}.attn_v.bias": (256,),
            "blk.{i}.attn_output.weight": (256, 512),
            "blk.1.indexer.q_proj.weight": (256, 256),
        },
        flash=True,
    ),
}


def latent_model(name: str, path: str | os.PathLike[str]) -> Path:
    """Write the variant `name` to `path`, and return `path`."""
    variant, path = VARIANTS[name], Path(path)
    metadata, shapes = conformance_parts(variant.base)
    arch = metadata["general.architecture"]
    metadata |= {f"{arch}.{key}": value for key, value in variant.metadata.items()}
    for key, shape in variant.tensors.items():
        shapes |= {key.format(i=i): shape for i in range(4 if "deepseek4" in name else 2)}
    kept = {key: shape for key, shape in shapes.items() if not re.match(variant.without, key)}
    return write_gguf(path, metadata, {key: _weights(key, shape) for key, shape in kept.items()})


def _weights(name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    if name.endswith("tid2eid.weight"):  # two experts of 8, which differ
        first = np.arange(shape[0]) * 5 % 8
        return np.stack([first, (first + 1 + np.arange(shape[0]) % 7) % 8], 1).astype(np.int32)
    # scores of useful size: queries are made by other matrices than in other models
    gain = 2 if re.search(r"attn_(q|q_b)\.|indexer\.", name) and len(shape) > 1 else 1
    return variant_weights(name, shape) * np.float32(gain)


def latent_golden(name: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Tokens (n_tokens,) and logits (16, 128) of the last 16 positions of the variant `name`."""
    with np.load(DATA / "latent_variants.npz") as golden:
        return golden[f"{name}/tokens"], golden[f"{name}/logits"]
