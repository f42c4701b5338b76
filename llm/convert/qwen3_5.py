"""Qwen 3.5, its text model: "qwen35". Source: transformers, `Qwen3_5ForConditionalGeneration`."""

import re
from collections.abc import Iterable, Iterator

import numpy as np

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _experts as experts
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert import mamba2
from jitllm.llm.convert._source import Config, Source
from jitllm.llm.convert._target import Target
from jitllm.llm.convert._weights import Weight
from jitllm.llm.errors import ModelFormatError

ARCHITECTURE = "qwen35"
CLASSES = ("Qwen3_5ForCausalLM", "Qwen3_5ForConditionalGeneration")
DEFAULTS = {
    "rope_theta": 10000.0, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
    "num_key_value_heads": 4, "head_dim": 256, "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
    "linear_value_head_dim": 128, "full_attention_interval": 4,
}  # fmt: skip
LAYER = (
    decoder.LAYER
    | experts.LAYER
    | experts.SHARED
    | {
        "linear_attn.A_log": "ssm_a",
        "linear_attn.conv1d": "ssm_conv1d",
        "linear_attn.dt_bias": "ssm_dt.bias",
        "linear_attn.in_proj_a": "ssm_alpha",
        "linear_attn.in_proj_b": "ssm_beta",
        "linear_attn.in_proj_qkv": "attn_qkv",
        "linear_attn.in_proj_z": "attn_gate",
        "linear_attn.norm": "ssm_norm",
        "linear_attn.out_proj": "ssm_out",
        "post_attention_layernorm": "post_attention_norm",
        "fc": "nextn.eh_proj",
        "pre_fc_norm_embedding": "nextn.enorm",
        "pre_fc_norm_hidden": "nextn.hnorm",
        "shared_head_norm": "nextn.shared_head_norm",
    }
)
_NAMES = decoder.Names(LAYER)
_NEXT = re.compile(r"(?:model\.)?mtp\.(?:layers\.(\d+)\.)?(.+)")
_NEXT_WHOLE = {"norm.weight": "shared_head_norm.weight"}
_WITH_KEYS = ("conv1d", "in_proj_qkv")
_ONE_EACH = ("A_log", "dt_bias", "in_proj_a", "in_proj_b")
_SECTIONS = [11, 11, 10, 0]


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    keys(source.config, target)
    sections(source.config, target)
    tensors(source.config, target, source.weights())
    vocabulary.sentencepiece_or_gpt2(source, target)


def keys(config: Config, target: Target) -> None:
    """Put down sizes and constants, and which layers are recurrent."""
    n_layers, n_next = config.size("num_hidden_layers"), config.get("mtp_num_hidden_layers") or 0
    decoder.keys(config, target)
    target.key("uint32", "block_count", n_layers + n_next)
    target.key("uint32", "nextn_predict_layers", n_next or None)
    heads, head = config.size("linear_num_value_heads"), config.size("linear_value_head_dim")
    target.key("uint32", "ssm.conv_kernel", config.size("linear_conv_kernel_dim"))
    target.key("uint32", "ssm.state_size", config.size("linear_key_head_dim"))
    target.key("uint32", "ssm.group_count", config.size("linear_num_key_heads"))
    target.key("uint32", "ssm.time_step_rank", heads)
    target.key("uint32", "ssm.inner_size", heads * head)
    interval = config.size("full_attention_interval")
    target.key("uint32", "full_attention_interval", interval)
    recurrent = [(i + 1) % interval != 0 for i in range(n_layers)]
    if (kinds := config.get("layer_types")) is not None:
        recurrent = [kind == "linear_attention" for kind in kinds]
    if len(recurrent) != n_layers:
        raise ModelFormatError(
            f"{config.path}: expected {n_layers} layer_types, got {len(recurrent)}"
        )
    target.key("bool", "attention.recurrent_layers", recurrent + [False] * n_next)
    rope = decoder.rope_parameters(config)
    share = rope.get("partial_rotary_factor", 0.25)
    target.key("uint32", "rope.dimension_count", int(decoder.head_dim(config) * share))


def sections(config: Config, target: Target) -> None:
    """Put down how many pairs turn with time, height and width, where config.json does not say."""
    if "mrope_section" not in decoder.rope_parameters(config):
        target.key("int32", "rope.dimension_sections", _SECTIONS)


def tensors(config: Config, target: Target, weights: Iterable[tuple[str, Weight]]) -> None:
    """Put down the tensors; layers that predict further tokens come after the others."""
    for name, weight in next_last(weights, config.size("num_hidden_layers")):
        part = name.removesuffix(".weight")
        weight = _tiled(config, name, weight) if "linear_attn" in name else raised(part, weight)
        target.tensor(_NAMES(name), weight)


def raised(part: str, weight: Weight) -> Weight:
    """Return the weight of a norm with the 1 that is added there when it is used."""
    is_norm = part.endswith("norm") or "pre_fc_norm" in part
    return weight.computed(lambda w: w + 1) if is_norm else weight


def next_last(weights: Iterable[tuple[str, Weight]], n_layers: int) -> Iterator[tuple[str, Weight]]:
    """Yield weights, those of the predictor of further tokens with names as of more layers."""
    for name, weight in weights:
        found = _NEXT.fullmatch(name)
        if not found:
            yield name, weight
        elif found[1]:
            yield f"model.layers.{n_layers + int(found[1])}.{found[2]}", weight
        else:
            yield f"model.layers.{n_layers}.{_NEXT_WHOLE.get(found[2], found[2])}", weight


def _tiled(config: Config, name: str, weight: Weight) -> Weight:
    """Return a weight of linear attention with heads of values in the order of GGUF.

    There, heads that share a head of keys follow each other; here, their first ones come first,
    then their second ones.
    """
    n_keys, n_values = (config.size(f"linear_num_{kind}_heads") for kind in ("key", "value"))
    part = name.removesuffix(".weight").rpartition(".")[2]
    if part == "norm":
        return weight
    if part == "conv1d" and len(weight.shape) == 3:
        weight = weight.moved(lambda w: w.squeeze(1))
    if part == "A_log":
        weight = weight.computed(mamba2.decay)
    keys = 2 * n_keys * config.size("linear_key_head_dim") if part in _WITH_KEYS else 0
    size = 1 if part in _ONE_EACH else config.size("linear_value_head_dim")
    axis = int(part == "out_proj")
    if weight.shape[axis] != keys + n_values * size or n_values % n_keys:
        raise ModelFormatError(
            f"tensor {name!r}: expected {n_values} heads of {size} after {keys} others, got "
            f"{weight.shape[axis]}; the weights are of another model than config.json"
        )
    values = np.arange(n_values * size).reshape(n_keys, -1, size).swapaxes(0, 1).ravel()
    order = np.concatenate([np.arange(keys), keys + values])
    return weight.moved(lambda w: w.take(order, axis))
