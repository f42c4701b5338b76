"""Tiny models with blocks that predict further tokens, made from the conformance set by changes.

As in all variants weights have a useful size, so that every detail shows.

`data/variants_nextn.npz` holds what llama.cpp 0.5.0 gives for each (`recorders/nextn.py`): `tokens`
(28,); `hidden` (4, n), the model's last hidden rows; and of each block b `logits.b` (16, 128) and
`hidden.b` (4, n) of the last positions. Block 0 reads the model's hidden rows of the positions
before, zeros at position 0, any other the rows of the block before it.
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
from variants.written_gemma import WRITTEN, written_gemma

Shapes = dict[str, tuple[int, ...]]
N_TOKENS = 28


@dataclass(frozen=True)
class NextnVariant:
    """Changes to a model of the conformance set.

    Attributes
    ----------
    base : str
        Its name there.
    layers : tuple of int
        The layer of the base that each layer is like.
    n_blocks : int
        So many of them, the last, predict further tokens.
    metadata : mapping
        New values of keys, without the architecture's prefix; None removes a key.
    tensors : mapping of str to shape
        Tensors to add or replace, NumPy order; "{i}" in a name makes one for each layer.
    own : tuple of str
        Tensors that blocks have for themselves, of "shared_head_norm", "shared_head_head" and
        "embed_tokens".
    without : str
        Regular expression of tensors to leave out.
    """

    base: str
    layers: tuple[int, ...] = (0, 1, 1)
    n_blocks: int = 1
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    own: tuple[str, ...] = ()
    without: str = "$^"


_ALL = ("shared_head_norm", "shared_head_head", "embed_tokens")
_WEIGHTS = {"expert_weights_norm": True, "expert_weights_scale": 2.5}
_ROUTER = {"ffn_gate_inp.weight": (8, 128), "exp_probs_b.bias": (8,)}


def _of_layer(i: int, shapes: Shapes) -> Shapes:
    return {f"blk.{i}.{key}": shape for key, shape in shapes.items()}


def _units(end: str, n: int, n_ff: int, *count: int) -> Shapes:
    """Gate, up and down of n columns."""
    shape = (*count, n_ff, n)
    up = {f"ffn_{part}_{end}.weight": shape for part in ("gate", "up")}
    return up | {f"ffn_down_{end}.weight": (*count, n, n_ff)}


_PLAIN_EXPERTS: Shapes = {
    "ffn_gate_inp.weight": (8, 256),
    "exp_probs_b.bias": (8,),
    "ffn_latent_down.weight": (128, 256),
    "ffn_latent_up.weight": (256, 128),
    "ffn_up_exps.weight": (8, 96, 128),
    "ffn_down_exps.weight": (8, 128, 96),
    "ffn_up_exps.scale": (8,),
    "ffn_up_shexp.weight": (64, 256),
    "ffn_down_shexp.weight": (256, 64),
}
VARIANTS = {
    "qwen35": NextnVariant("qwen35-dense", metadata={"rope.freq_base": 300.0}, own=_ALL),
    "qwen35-shared": NextnVariant("qwen35-dense", without=r"output\."),
    "qwen35moe": NextnVariant("qwen35moe-moe.routed", own=_ALL[:1]),
    "qwen3next": NextnVariant("qwen3next-moe.routed", own=_ALL[1:]),
    "glm4moe": NextnVariant(
        "glm4moe-moe.routed",
        metadata=_WEIGHTS | {"rope.dimension_sections": None, "rope.dimension_count": 64},
        own=_ALL,
        without=r".*scale$",
    ),
    "deepseek2": NextnVariant("deepseek2-moe.routed", metadata=_WEIGHTS, own=_ALL),
    "deepseek32": NextnVariant("deepseek32-moe.routed", metadata=_WEIGHTS, own=_ALL[:1]),
    "glm-dsa": NextnVariant("glm-dsa-moe.routed", metadata=_WEIGHTS, own=_ALL),
    "mimo2": NextnVariant(
        "mimo2-moe.routed",
        (0, 1, 0, 1),
        2,
        {"attention.sliding_window": 8, "attention.value_scale": 0.7},
        {"blk.{i}.attn_qkv.weight": (768, 256)},
        own=_ALL[:1],
        without=r".*attn_[qkv]\.|blk\.[23]\.(ffn_gate_inp|ffn_.*_exps|exp_probs).*",
    ),
    "hy_v3": NextnVariant("hy_v3-moe.routed", (0, 1, 1, 1), 2, _WEIGHTS, own=_ALL),
    "bailingmoe3": NextnVariant(
        "bailingmoe3-moe.routed",
        (0, 1, 0),
        tensors=_of_layer(
            2,
            _ROUTER
            | {"layer_output_norm.weight": (128,)}
            | _units("exps", 128, 192, 8)
            | _units("shexp", 128, 96),
        ),
        without=r"blk\.2\.ffn_(gate|up|down)\..*",
    ),
    "cohere2moe": NextnVariant(
        "cohere2moe-moe.routed", metadata={"attention.sliding_window": 8, "logit_scale": 0.3}
    ),
    "nemotron_h_moe": NextnVariant(
        "nemotron_h_moe-dense",
        (1, 0, 0),
        metadata=_WEIGHTS
        | {"expert_count": 8, "expert_used_count": 3}
        | {"expert_feed_forward_length": np.array([0, 0, 96], np.uint32)}
        | {"expert_shared_feed_forward_length": 64, "expert_shared_count": 1}
        | {"attention.head_count": 2, "attention.head_count_kv": np.array([0, 2, 2], np.uint32)}
        | {"feed_forward_length": 0, "moe_latent_size": 128, "attention.layer_norm_epsilon": 0.25},
        tensors=_of_layer(2, _PLAIN_EXPERTS | {"post_attention_norm.weight": (256,)}),
        own=_ALL[:1],
    ),
    "deepseek4": NextnVariant(
        "deepseek4-moe.routed", (2, 3, 1), metadata={"attention.sliding_window": 8}, own=_ALL
    ),
}


NAMES = [*VARIANTS, "step35"]


def nextn_model(name: str, path: str | os.PathLike[str]) -> Path:
    """Write the variant `name` to `path`, and return `path`."""
    if name in WRITTEN:
        return written_gemma(name, path)
    variant, path = VARIANTS[name], Path(path)
    metadata, shapes = conformance_parts(variant.base)
    arch, layers = metadata["general.architecture"], np.array(variant.layers)
    n_layers = metadata[f"{arch}.block_count"]
    for key, value in metadata.items():  # arrays of one value for each layer
        if isinstance(value, np.ndarray) and len(value) == n_layers and "sections" not in key:
            metadata[key] = value[layers]
    metadata |= {f"{arch}.{key}": value for key, value in variant.metadata.items()}
    metadata[f"{arch}.block_count"] = len(layers)
    metadata[f"{arch}.nextn_predict_layers"] = variant.n_blocks
    metadata = {key: value for key, value in metadata.items() if value is not None}
    tensors: dict[str, NDArray[Any]] = {
        key: variant_weights(key, shape) for key, shape in _shapes(variant, shapes).items()
    }
    return write_gguf(path, metadata, tensors)


def _shapes(variant: NextnVariant, base: Shapes) -> Shapes:
    shapes = {key: shape for key, shape in base.items() if not key.startswith("blk.")}
    (vocabulary, n), n_layers = base["token_embd.weight"], len(variant.layers)
    for i, like in enumerate(variant.layers):
        layer = {k.split(".", 2)[2]: s for k, s in base.items() if k.startswith(f"blk.{like}.")}
        shapes |= {f"blk.{i}.{key}": shape for key, shape in layer.items()}
    for i in range(n_layers - variant.n_blocks, n_layers):
        own = {"eh_proj": (n, 2 * n), "enorm": (n,), "hnorm": (n,)}
        heads = {"shared_head_norm": (n,), "shared_head_head": (vocabulary, n)}
        heads["embed_tokens"] = (vocabulary, n)
        own |= {key: heads[key] for key in variant.own}
        shapes |= {f"blk.{i}.nextn.{key}.weight": shape for key, shape in own.items()}
    for key, shape in variant.tensors.items():
        shapes |= {key.format(i=i): shape for i in range(n_layers)}
    return {key: shape for key, shape in shapes.items() if not re.match(variant.without, key)}


def nextn_golden(name: str) -> dict[str, NDArray[Any]]:
    """The arrays of the variant `name`."""
    with np.load(DATA / "variants_nextn.npz") as golden:
        keys = [key for key in golden.files if key.startswith(f"{name}/")]
        return {key.partition("/")[2]: golden[key] for key in keys}
