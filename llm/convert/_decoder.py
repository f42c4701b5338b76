"""What decoders have in common: keys of config.json, rotation, names of tensors.

Names on the left are those of Hugging Face's transformers, names on the right those of GGUF.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jitllm.llm.convert._source import Config
from jitllm.llm.convert._target import Target
from jitllm.llm.convert._weights import Array, Weight, constant
from jitllm.llm.errors import ModelFormatError

_SIZES = (  # the first name that is there counts
    ("uint32", "context_length", ("max_position_embeddings", "n_ctx", "n_positions")),
    ("uint32", "embedding_length", ("hidden_size", "n_embd")),
    ("uint32", "feed_forward_length", ("intermediate_size", "n_inner")),
    ("uint32", "attention.head_count", ("num_attention_heads", "n_head")),
    ("uint32", "attention.head_count_kv", ("num_key_value_heads",)),
)
_CONSTANTS = (
    ("float32", "attention.layer_norm_rms_epsilon", ("rms_norm_eps", "norm_eps")),
    ("float32", "attention.layer_norm_epsilon", ("layer_norm_eps", "layer_norm_epsilon")),
    ("uint32", "expert_count", ("num_local_experts", "num_experts", "n_routed_experts")),
    ("uint32", "expert_used_count", ("num_experts_per_tok",)),
    ("uint32", "expert_group_count", ("n_group",)),
    ("uint32", "expert_group_used_count", ("topk_group",)),
)
_GATING = {"softmax": 1, "sigmoid": 2}

WHOLE = {
    "model.embed_tokens": "token_embd",
    "embed_tokens": "token_embd",  # of a model without a head
    "model.norm": "output_norm",
    "norm": "output_norm",
    "lm_head": "output",
}
LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
}


class Names:
    """From a tensor's name in transformers to that in GGUF.

    Parameters
    ----------
    layer : mapping of str to str
        Names within a layer, without ".weight".
    whole : mapping of str to str
        Names outside of layers.
    prefix : str
        Regular expression of what comes before a layer's number.
    """

    def __init__(
        self,
        layer: Mapping[str, str] = LAYER,
        whole: Mapping[str, str] = WHOLE,
        prefix: str = r"(?:model\.)?layers\.",
    ) -> None:
        self._layer, self._whole = layer, whole
        self._pattern = re.compile(prefix + r"(\d+)\.(.+?)(\.weight|\.bias|)")

    def __call__(self, name: str) -> str:
        """Return the name in GGUF, with ".weight" or ".bias" as before.

        Raises
        ------
        ModelFormatError
            If there is none.
        """
        stem, dot, suffix = name.rpartition(".")
        if stem in self._whole:
            return self._whole[stem] + dot + suffix
        found = self._pattern.fullmatch(name)
        if not found or found[2] not in self._layer:
            raise ModelFormatError(
                f"tensor {name!r}: expected one of {', '.join(self._whole)}, or in a layer one of "
                f"{', '.join(self._layer)}; this model is of another kind than its config.json says"
            )
        return f"blk.{found[1]}.{self._layer[found[2]]}{found[3]}"


NAMES = Names()


def keys(config: Config, target: Target) -> None:
    """Put down the keys that most decoders have, in the order of llama.cpp's converter."""
    _sizes(config, target)
    _rope_keys(config, target)
    _constants(config, target)


def tensors(target: Target, weights: Iterable[tuple[str, Weight]], names: Names = NAMES) -> None:
    """Put down weights as they are, under other names."""
    for name, weight in weights:
        target.tensor(names(name), weight)


def sizes(config: Config, target: Target) -> None:
    """Put down the keys that most decoders have but those of the rotation."""
    _sizes(config, target)
    _constants(config, target)


def _sizes(config: Config, target: Target) -> None:
    target.key("uint32", "block_count", config.size("num_hidden_layers", "n_layers", "n_layer"))
    for kind, name, names in _SIZES:
        target.key(kind, name, config.get(*names))
    if config.get("is_causal") is False:
        target.key("bool", "attention.causal", False)


def _constants(config: Config, target: Target) -> None:
    for kind, name, names in _CONSTANTS:
        target.key(kind, name, config.get(*names))
    score = config.get("scoring_func", "score_function", "moe_router_activation_func")
    if score is not None:
        if score not in _GATING:
            raise ModelFormatError(
                f"{config.path}: expected a score function among {', '.join(_GATING)}, got "
                f"{score!r}"
            )
        target.key("uint32", "expert_gating_func", _GATING[score])
    target.key("uint32", "attention.key_length", config.get("head_dim"))
    target.key("uint32", "attention.value_length", config.get("head_dim"))
    target.reserve("general.file_type")


def head_dim(config: Config) -> int:
    """Return the size of a head: as it is said, or a share of the hidden columns."""
    if config.get("head_dim") is not None:
        return config.size("head_dim")
    return config.size("hidden_size", "n_embd") // config.size("num_attention_heads", "n_head")


def rope_parameters(config: Config) -> dict[str, Any]:
    """Return what there is to know of the rotation, as transformers 5 writes it.

    Older files spread it over `rope_theta`, `rope_scaling` and others.
    """
    found = config.get("rope_scaling") or config.get("rope_parameters") or {}
    found = {name: value for name, value in found.items() if value is not None}
    if "full_attention" in found or "sliding_attention" in found:
        return found
    found.setdefault("rope_type", found.get("type", "default"))
    for name in ("rope_theta", "partial_rotary_factor"):
        if config.get(name) is not None:
            found.setdefault(name, config.get(name))
    original = config.get("original_max_position_embeddings")
    if original is not None:
        found["original_max_position_embeddings"] = original
    elif found["rope_type"] in ("llama3", "yarn", "longrope"):
        found.setdefault("original_max_position_embeddings", config.get("max_position_embeddings"))
    return found


def _rope_keys(config: Config, target: Target) -> None:
    both = rope_parameters(config)
    rope = both.get("full_attention", both)
    kind, factor = rope.get("rope_type"), rope.get("factor")
    if kind in ("linear", "yarn") and factor is not None:
        target.key("string", "rope.scaling.type", kind)
        target.key("float32", "rope.scaling.factor", factor)
    if kind == "yarn" and factor is not None:
        original = rope.get("original_max_position_embeddings")
        target.key("uint32", "rope.scaling.original_context_length", original)
        target.key("float32", "rope.scaling.yarn_ext_factor", rope.get("extrapolation_factor"))
        attention = rope.get("attention_factor", rope.get("attn_factor"))
        target.key("float32", "rope.scaling.yarn_attn_factor", attention)
        target.key("float32", "rope.scaling.yarn_beta_fast", rope.get("beta_fast"))
        target.key("float32", "rope.scaling.yarn_beta_slow", rope.get("beta_slow"))
    if kind in ("su", "longrope"):
        target.key("string", "rope.scaling.type", "longrope")
    if sections := both.get("mrope_section"):
        padded = [*sections, 0, 0, 0, 0][:4]
        target.key("int32", "rope.dimension_sections", padded)
    local = both.get("sliding_attention", {}).get("rope_theta")
    for key, theta in (("rope.freq_base", rope.get("rope_theta")), ("rope.freq_base_swa", local)):
        target.key("float32", key, theta)
        if theta is not None and not theta > 0:
            raise ModelFormatError(f"{config.path}: expected a positive rope_theta, got {theta}")


def llama3_factors(config: Config) -> Weight | None:
    """Return what frequencies are divided by where the context was stretched as in Llama 3.1.

    Long waves turn more slowly, short ones as before, those between something between.

    Source: Grattafiori et al., "The Llama 3 Herd of Models", 2024; transformers,
    `modeling_rope_utils.py`.
    """
    rope = rope_parameters(config)
    if str(rope.get("rope_type")).lower() != "llama3":
        return None
    size, factor = head_dim(config), rope.get("factor", 8.0)
    low, high = rope.get("low_freq_factor", 1.0), rope.get("high_freq_factor", 4.0)
    exponents = np.arange(0, size, 2, dtype=np.float32) / size
    with np.errstate(all="ignore"):  # what comes of odd numbers is looked at below
        waves = 2 * np.pi / (1 / np.float32(rope.get("rope_theta", 10000.0)) ** exponents)
        turns = rope.get("original_max_position_embeddings", 8192) / waves
        share = (turns - low) / (high - low)
        between = 1 / ((1 - share) / factor + share)
    divisors = np.where(turns > high, 1, np.where(turns < low, factor, between))
    return divisors_of(config, divisors.tolist())


def divisors_of(config: Config, values: Any) -> Weight:
    """Return the numbers by which frequencies of rope are divided.

    Raises
    ------
    ModelFormatError
        If they are no positive numbers.
    """
    array = np.array(values, np.float32)
    if array.ndim != 1 or not ((array > 0) & np.isfinite(array)).all():
        raise ModelFormatError(
            f"{config.path}: expected a scaling of rope with positive numbers, got some that give "
            f"{array}"
        )
    return constant(array.tolist())


def interleaved(weight: Weight, n_heads: int) -> Weight:
    """Return rows of q or k reordered for rope on neighbours: half a head apart becomes next.

    Parameters
    ----------
    weight : Weight
        Shape (n_heads * D, K), or a bias (n_heads * D,).
    n_heads : int

    Raises
    ------
    ModelFormatError
        If the rows are no heads.
    """
    if weight.shape[0] % (2 * n_heads):
        raise ModelFormatError(
            f"expected {n_heads} heads of even size in attention weights, got {weight.shape[0]} "
            "rows; the weights are of another model than config.json"
        )

    def move(array: Array) -> Array:
        halves = array.reshape(n_heads, 2, -1, *array.shape[1:])
        return halves.swapaxes(1, 2).reshape(array.shape)

    return weight.moved(move)
