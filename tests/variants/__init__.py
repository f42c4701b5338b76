"""Tiny models for tests, most of them made from those of the conformance set by small changes.

Each file has the models of one kind and says where their recorded values are. Here are the changed
models of `VARIANTS`, which `dense.py`, `decoders.py` and `experts.py` list too; `written.py`,
`written_gemma.py`, `encoders.py` and `rwkv.py` make models of nothing.

The weights of the conformance set are so small that all keys get nearly the same attention: a
wrong rope changes its logits by an NMSE of 1e-10. Here norms are near 1 and matrices keep the size
of what goes through them, so that every detail shows.

`data/variants.npz` (for those of `dense.py` `data/variants_dense.npz`, and so on) holds for each
what the conformance set holds for its own: tokens (28,) and llama.cpp 0.5.0's logits (16, 128) of
the last 16 positions (20 tokens in one batch, then 8 single ones; context 256, one thread, F32
cache, flash attention off).
"""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiny import DATA, conformance_parts, conformance_weights, write_gguf

from variants.decoders import DECODER_VARIANTS
from variants.dense import DENSE_VARIANTS
from variants.experts import EXPERT_VARIANTS
from variants.variant import Variant

Shapes = dict[str, tuple[int, ...]]

_YARN = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 8.0,
    "rope.scaling.original_context_length": 64,
}
VARIANTS = {
    "llama-routed": Variant("llama-moe.routed"),
    "qwen2": Variant("qwen2-dense.gqa"),
    "qwen3": Variant("qwen3-dense"),
    "qwen3moe-routed": Variant("qwen3moe-moe.routed"),
    "mistral3-routed": Variant("mistral3-moe.routed"),
    "llama-yarn": Variant("llama-dense", _YARN),
    "llama-linear-tied": Variant(
        "llama-dense", {"rope.scaling.factor": 4.0, "rope.freq_base": 500.0}, without=r"output\."
    ),
    "llama-frequency-factors": Variant(
        "llama-dense.gqa", factors={"rope_freqs.weight": (1.0, 8.0)}
    ),
    "llama-fused": Variant(
        "llama-dense.gqa",
        without=r".*attn_[qkv]\.(weight|scale|input_scale)|.*_scale",
        tensors={"blk.{i}.attn_qkv.weight": (512, 256)},
    ),
    "qwen3-yarn": Variant("qwen3-dense", _YARN | {"rope.scaling.attn_factor": 1.25}),
    "mistral3-temperature": Variant(
        "mistral3-dense",
        _YARN
        | {
            "rope.scaling.original_context_length": 8,
            "rope.scaling.yarn_log_multiplier": 0.7,
            "rope.scaling.yarn_beta_fast": 2.0,
            "rope.scaling.yarn_beta_slow": 0.05,
            "attention.temperature_scale": 0.5,
        },
    ),
    "smollm3-five-layers": Variant("smollm3-dense", n_layers=5),
    "gemma3-windows": Variant(
        "gemma3-dense.gqa",
        {
            "attention.sliding_window": 8,
            "attention.sliding_window_pattern": 3,
            "rope.freq_base": 1000000.0,
            "rope.freq_base_swa": 100.0,
            "rope.scaling.factor": 8.0,
            "final_logit_softcapping": 3.0,
        },
        n_layers=4,
        without=r"output\.",
    ),
    "gemma3-no-window": Variant(
        "gemma3-dense", {"attention.sliding_window": 0, "rope.freq_base": 300.0}
    ),
    "phi3-long-fused": Variant(
        "phi3-dense.gqa",
        {
            "rope.scaling.original_context_length": 16,
            "rope.scaling.attn_factor": 1.5,
            "rope.dimension_count": 96,
            "attention.sliding_window": 8,
        },
        without=r".*attn_[qkv]\.",
        tensors={"blk.{i}.attn_qkv.weight": (512, 256), "blk.{i}.attn_qkv.bias": (512,)},
        factors={
            "rope_factors_long.weight": (1.0, 9.0),
            "rope_factors_short.weight": (1.0, 2.0),
        },
    ),
    "phi3-short": Variant(
        "phi3-dense",
        factors={
            "rope_factors_long.weight": (1.0, 9.0),
            "rope_factors_short.weight": (1.0, 2.0),
        },
    ),
}
VARIANTS |= DENSE_VARIANTS | DECODER_VARIANTS
_FACTOR_COUNT = {"phi3-long-fused": 48}


def variant_model(name: str, path: str | os.PathLike[str]) -> Path:
    """Write the variant `name` to `path`, and return `path`."""
    variant, path = (VARIANTS | EXPERT_VARIANTS)[name], Path(path)
    metadata, shapes = conformance_parts(variant.base)
    arch = metadata["general.architecture"]
    for key, value in variant.metadata.items():
        metadata[f"{arch}.{key}"] = value
    metadata[f"{arch}.block_count"] = len(variant.layers) or variant.n_layers
    metadata = {key: value for key, value in metadata.items() if value is not None}
    tensors: dict[str, NDArray[Any]] = {
        key: variant_weights(key, shape) for key, shape in _layers(variant, shapes).items()
    }
    for key, (first, last) in variant.factors.items():
        count = _FACTOR_COUNT.get(name, tensors[key].size)
        tensors[key] = np.linspace(first, last, count, dtype=np.float32)
    return write_gguf(path, metadata, tensors)


def variant_weights(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Random weights of a useful size, from the normal numbers that the conformance set uses."""
    normal = conformance_weights(name, shape) * np.float32(10)
    if len(shape) == 1:
        centre = 0 if name.endswith(".bias") else 1
        return np.float32(centre) + normal * np.float32(0.2)
    if name == "token_embd.weight":
        return normal
    gain = 2 if re.search(r"attn_(q|k|qkv)\.", name) else 1
    return normal * np.float32(gain / np.sqrt(shape[-1]))


def _layers(variant: Variant, shapes: Shapes) -> Shapes:
    """The tensors of the layers, and those that belong to none."""
    single = {k: s for k, s in shapes.items() if not k.startswith("blk.")}
    for i, base in enumerate(variant.layers or (0,) * variant.n_layers):
        layer = {k.split(".", 2)[2]: s for k, s in shapes.items() if k.startswith(f"blk.{base}.")}
        single |= {f"blk.{i}.{key}": shape for key, shape in layer.items()}
    kept = {key: s for key, s in single.items() if not re.match(variant.without, key)}
    for key, shape in variant.tensors.items():
        kept |= {key.format(i=i): shape for i in range(variant.n_layers)}
    return kept


def variant_golden(name: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Tokens (28,) and logits (16, 128) of the last 16 positions of the variant `name`."""
    files = {
        "variants_dense.npz": DENSE_VARIANTS,
        "variants_decoders.npz": DECODER_VARIANTS,
        "variants_experts.npz": EXPERT_VARIANTS,
    }
    file = next((file for file, names in files.items() if name in names), "variants.npz")
    with np.load(DATA / file) as golden:
        return golden[f"{name}/tokens"], golden[f"{name}/logits"]
