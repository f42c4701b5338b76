"""Attention: queries, keys and values, norms on heads, windows, output matrices.

Functions add nodes for layer i under the prefix "blk.{i}.".
"""

from typing import Any

import numpy as np

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import Rotation
from jitllm.llm.graph.words.clamp import clamp
from jitllm.llm.graph.words.delta_net import gated
from jitllm.llm.graph.words.head_layer_norm import head_layer_norm
from jitllm.llm.graph.words.ssm import column_scale
from jitllm.llm.models import _nn as nn

Heads = tuple[Value, Value, Value]


def qkv(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Heads:
    """Queries [T, H*dk], keys [T, G*dk], values [T, G*dv]; their matrices may be fused into one."""
    blk, sizes = f"blk.{i}.", _sizes(config, i)
    names = (blk + "attn_q", blk + "attn_k", blk + "attn_v")
    if not g.has(blk + "attn_qkv.weight"):
        q, k, v = (nn.linear(g, x, name, size) for name, size in zip(names, sizes, strict=True))
        return q, k, v
    fused = nn.linear(g, x, blk + "attn_qkv", sum(sizes))
    # separate biases may stand beside a fused matrix that has none of its own
    own_biases = not g.has(blk + "attn_qkv.bias") and all(g.has(f"{n}.bias") for n in names)
    if not own_biases:
        return _split(g, fused, config, i)
    parts = _split(g, fused, config, i, ".columns")
    named = zip(parts, names, strict=True)
    q, k, v = (g.add_bias(part, f"{name}.bias", name=name) for part, name in named)
    return q, k, v


def fused_qkv(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Heads:
    """Queries, keys and values from one matrix, whose bias and scale are not used."""
    name = f"blk.{i}.attn_qkv"
    fused = g.matmul(x, f"{name}.weight", width=sum(_sizes(config, i)), name=name)
    return _split(g, fused, config, i)


def _sizes(config: ModelConfig, i: int) -> tuple[int, int, int]:
    """Columns of queries, keys and values."""
    n_kv = config.num_key_value_heads[i]
    q_width = config.num_attention_heads[i] * config.head_dim
    return q_width, n_kv * config.head_dim, n_kv * config.v_head_dim


def _split(g: GraphBuilder, fused: Value, config: ModelConfig, i: int, end: str = "") -> Heads:
    """The columns of queries, keys and values, their names ending with `end`."""
    q_end, k_width, v_width = _sizes(config, i)
    blk, k_end = f"blk.{i}.attn_", q_end + k_width
    q = g.columns(fused, 0, q_end, name=f"{blk}q{end}")
    k = g.columns(fused, q_end, k_end, name=f"{blk}k{end}")
    return q, k, g.columns(fused, k_end, k_end + v_width, name=f"{blk}v{end}")


def clamped_qkv(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Heads:
    """Queries, keys and values, within the bounds that the metadata may set."""
    heads = qkv(g, x, config, i)
    bound = config.metadata.get("attention.clamp_kqv", float, 0.0)
    if not bound > 0:
        return heads
    q, k, v = (clamp(g, part, bound, name=f"{part.name}_clamped") for part in heads)
    return q, k, v


def roped_qkv(
    g: GraphBuilder, x: Value, config: ModelConfig, rotation: Rotation | None, i: int
) -> Heads:
    """Queries, keys and values, with rope on the first two unless `rotation` is None."""
    q, k, v = clamped_qkv(g, x, config, i)
    if rotation is not None:
        q, k = rope(g, q, k, rotation, config, i)
    return q, k, v


def head_rms_norms(
    g: GraphBuilder, q: Value, k: Value, config: ModelConfig, i: int
) -> tuple[Value, Value]:
    """RMS norm over each head of q and of k."""
    eps, group = config.rms_norm_eps, config.head_dim
    names = (f"blk.{i}.attn_q_norm", f"blk.{i}.attn_k_norm")
    q, k = (
        g.rms_norm(x, f"{name}.weight", eps=eps, group=group, name=name)
        for x, name in zip((q, k), names, strict=True)
    )
    return q, k


def head_layer_norms(
    g: GraphBuilder, q: Value, k: Value, config: ModelConfig, i: int
) -> tuple[Value, Value]:
    """Layer norm over each head of q and of k, each with weights of its own, where there are."""

    def normed(x: Value, name: str, n_heads: int) -> Value:
        if not g.has(f"{name}.weight"):
            return x
        weights = g.values(f"{name}.weight", (n_heads, config.head_dim)).reshape(-1)
        bare = f"{name}.bare"
        x = head_layer_norm(g, x, n_heads=n_heads, eps=nn.layer_eps(config), name=bare)
        return column_scale(g, x, weights, name=name)

    return (
        normed(q, f"blk.{i}.attn_q_norm", config.num_attention_heads[i]),
        normed(k, f"blk.{i}.attn_k_norm", config.num_key_value_heads[i]),
    )


def rope(
    g: GraphBuilder, q: Value, k: Value, rotation: Rotation, config: ModelConfig, i: int
) -> tuple[Value, Value]:
    """Rope on q and k."""
    heads, kv_heads = config.num_attention_heads[i], config.num_key_value_heads[i]
    q = g.rope(q, rotation, n_heads=heads, name=f"blk.{i}.attn_q_rope")
    k = g.rope(k, rotation, n_heads=kv_heads, name=f"blk.{i}.attn_k_rope")
    return q, k


def attention(
    g: GraphBuilder,
    q: Value,
    k: Value,
    v: Value,
    config: ModelConfig,
    i: int,
    *,
    scale: float | None = None,
    **rules: Any,
) -> Value:
    """Attention with the `rules` of the word, without its output matrix: [T, H*dv].

    `scale` is 1 / sqrt(head_dim) unless given.
    """
    return g.attention(
        q, k, v, n_heads=config.num_attention_heads[i], n_kv_heads=config.num_key_value_heads[i],
        scale=config.head_dim**-0.5 if scale is None else scale, name=f"blk.{i}.kqv_out", **rules,
    )  # fmt: skip


def output(g: GraphBuilder, z: Value, config: ModelConfig, i: int, *, bias: bool = False) -> Value:
    """The output matrix of the attention: [T, n]. `bias`: use its bias if there is one."""
    name = f"blk.{i}.attn_out"
    return nn.linear(g, z, f"{name}put", config.hidden_size, bias=bias, as_name=name)


def gated_output(
    g: GraphBuilder, z: Value, x: Value, config: ModelConfig, i: int, *, width: int
) -> Value:
    """The output matrix after z * sigmoid(gate(x)), x being the attention's input: [T, n].

    A column of the gate's `width` belongs to as many columns of z as come to each. Source: Qiu et
    al., "Gated Attention for Large Language Models", 2025.
    """
    name = f"blk.{i}.attn_gate"
    gate = g.matmul(x, f"{name}.weight", name=name, width=width)
    return output(g, gated(g, z, gate, name=f"blk.{i}.kqv_gated"), config, i)


def attend(
    g: GraphBuilder,
    q: Value,
    k: Value,
    v: Value,
    config: ModelConfig,
    i: int,
    *,
    bias: bool = False,
    **rules: Any,
) -> Value:
    """Attention and its output matrix: [T, n]; see `attention` and `output`."""
    z = attention(g, q, k, v, config, i, **rules)
    return output(g, z, config, i, bias=bias)


def block(
    g: GraphBuilder,
    x: Value,
    config: ModelConfig,
    i: int,
    rotation: Rotation | None,
    *,
    head_norms: bool = False,
    bias: bool = False,
    **rules: Any,
) -> Value:
    """A whole attention block of normalized rows: [T, n].

    `rotation` is None for a layer without rope; `head_norms` are RMS norms on the heads of q and
    k, before rope; `bias`: use that of the output matrix if there is one; `rules` are those of
    the word `attention`.
    """
    q, k, v = qkv(g, x, config, i)
    if head_norms:
        q, k = head_rms_norms(g, q, k, config, i)
    if rotation is not None:
        q, k = rope(g, q, k, rotation, config, i)
    return attend(g, q, k, v, config, i, bias=bias, **rules)


def windows_of(config: ModelConfig, period: int) -> tuple[int, ...]:
    """Window of each layer, 0 for none, by "attention.sliding_window_pattern".

    The key holds a flag for each layer, or a period p (by default `period`) at whose end, in
    layers p - 1, 2 p - 1, ..., a layer has no window; period 0 gives every layer one.
    """
    n, key = config.num_hidden_layers, "attention.sliding_window_pattern"
    name = f"{config.architecture}.{key}"
    if isinstance(config.metadata.values.get(name), np.ndarray):
        flags = config.metadata.per_layer(key, bool, n)
    else:
        period = config.metadata.get(key, int, period)
        flags = tuple(not period or i % period < period - 1 for i in range(n))
    return tuple(config.sliding_window if flag else 0 for flag in flags)


def leading_windows_of(config: ModelConfig, period: int) -> tuple[int, ...]:
    """Window of each layer as `windows_of`, but it is layers 0, p, 2 p, ... that have none."""
    key = f"{config.architecture}.attention.sliding_window_pattern"
    if not isinstance(config.metadata.values.get(key, 0), int):
        return windows_of(config, period)
    period = config.metadata.get("attention.sliding_window_pattern", int, period)
    layers = range(config.num_hidden_layers)
    return tuple(config.sliding_window if not period or i % period else 0 for i in layers)
