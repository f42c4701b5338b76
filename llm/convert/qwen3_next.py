"""Qwen 3 Next: "qwen3next". Source: transformers, `Qwen3NextForCausalLM`."""

import re
from functools import partial
from itertools import pairwise

import numpy as np

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert import mamba2, qwen3_5, qwen3_5_moe
from jitllm.llm.convert._source import Config, Source
from jitllm.llm.convert._target import Target
from jitllm.llm.convert._weights import Array, Weight
from jitllm.llm.errors import ModelFormatError

ARCHITECTURE = "qwen3next"
CLASSES = ("Qwen3NextForCausalLM",)
DEFAULTS = qwen3_5.DEFAULTS | {
    "num_key_value_heads": 2, "moe_intermediate_size": 512, "num_experts": 512,
    "num_experts_per_tok": 10, "shared_expert_intermediate_size": 512,
}  # fmt: skip
_NAMES = decoder.Names(qwen3_5.LAYER | {"linear_attn.in_proj_ba": "ssm_ba"})
_NEXT = re.compile(r"(?:model\.)?mtp\.layers\.(\d+)\..+")


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    found = (_NEXT.fullmatch(name) for name, _ in source.weights())
    n_next = max((int(match[1]) + 1 for match in found if match), default=0)
    config.complete({"mtp_num_hidden_layers": n_next})  # config.json does not tell
    qwen3_5_moe.keys(config, target)
    weights = qwen3_5.next_last(qwen3_5_moe.weights(source), config.size("num_hidden_layers"))
    for name, weight in weights:
        if name.endswith("in_proj_qkvz.weight"):
            _put_apart(config, target, name, weight)
        else:
            target.tensor(_NAMES(name), _prepared(name, weight))
    vocabulary.gpt2(source, target)


def _prepared(name: str, weight: Weight) -> Weight:
    part = name.removesuffix(".weight")
    if part.endswith("linear_attn.A_log"):
        return weight.computed(mamba2.decay)
    if part.endswith("linear_attn.conv1d"):
        return weight.moved(lambda w: w.squeeze(1))
    return weight if "linear_attn" in part else qwen3_5.raised(part, weight)


def _put_apart(config: Config, target: Target, name: str, weight: Weight) -> None:
    """Put down queries, keys and values of all heads in one tensor, gates in another.

    There, these four of a head of keys follow each other.

    Raises
    ------
    ModelFormatError
        If the rows are no heads.
    """
    heads, key = config.size("linear_num_key_heads"), config.size("linear_key_head_dim")
    total = config.size("linear_num_value_heads") * config.size("linear_value_head_dim")
    if weight.shape[0] != 2 * (heads * key + total) or total % heads:
        raise ModelFormatError(
            f"tensor {name!r}: expected {2 * (heads * key + total)} rows, got {weight.shape[0]}; "
            "the weights are of another model than config.json"
        )
    ends = (0, key, 2 * key, 2 * key + total // heads)
    base = name.removesuffix("qkvz.weight")
    qkv, z = (partial(_rows, heads, parts) for parts in (ends, (ends[-1], None)))
    target.tensor(_NAMES(f"{base}qkv.weight"), weight.moved(qkv))
    target.tensor(_NAMES(f"{base}z.weight"), weight.moved(z))


def _rows(heads: int, ends: tuple[int | None, ...], array: Array) -> Array:
    """Return parts of all heads, one part of all of them after the other."""
    each = array.reshape(heads, -1, array.shape[-1])
    parts = [each[:, a:b].reshape(-1, array.shape[-1]) for a, b in pairwise(ends)]
    return np.concatenate(parts)
