"""Pieces that architectures share: attention block, feed-forward networks, experts, ends.

Every function adds nodes for layer i under the prefix "blk.{i}." and follows the tensors of the
file: an optional bias or scale that is there is used.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import Rotation, rotation
from jitllm.llm.graph.words.experts import Routing
from jitllm.llm.models._gated import Unit, network
from jitllm.llm.models._moe import mixture

Block = Callable[[Value, int], Value]


class Blocks(NamedTuple):
    """What layers are made of.

    Attributes
    ----------
    attention, network : callable
        Get normalized rows [T, n] and the number of the layer, and return rows [T, n].
    ffn_norm : str
        The tensor of the second norm.
    """

    attention: Block
    network: Block
    ffn_norm: str = "ffn_norm"


def embeddings(g: GraphBuilder, config: ModelConfig) -> Value:
    """Embeddings of the tokens: [T, n]."""
    return g.embed("token_embd.weight", width=config.hidden_size, name="token_embd")


def linear(
    g: GraphBuilder, x: Value, name: str, width: int, *, bias: bool = True, as_name: str = ""
) -> Value:
    """x w^T * scale + bias with the tensors `name`.weight, .scale and .bias: [rows, width].

    The last two are optional; `bias=False` leaves the bias out. The scale belongs to the weights
    of types with little range of their own.
    """
    as_name = as_name or name
    bias_name = g.optional(f"{name}.bias") if bias else ""
    if not g.has(f"{name}.scale"):
        return g.matmul(x, f"{name}.weight", name=as_name, width=width, bias=bias_name)
    y = g.matmul(x, f"{name}.weight", name=f"{as_name}.matmul", width=width)
    scale = float(g.values(f"{name}.scale", (1,))[0])
    if not bias_name:
        return g.scale(y, scale, name=as_name)
    y = g.scale(y, scale, name=f"{as_name}.scaled")
    return g.add_bias(y, bias_name, name=as_name)


def qkv(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> tuple[Value, Value, Value]:
    """Queries [T, H*dk], keys [T, G*dk], values [T, G*dv]; their matrices may be fused into one."""
    blk = f"blk.{i}."
    n_kv = config.num_key_value_heads[i]
    sizes = (
        config.num_attention_heads[i] * config.head_dim,
        n_kv * config.head_dim,
        n_kv * config.v_head_dim,
    )
    names = (blk + "attn_q", blk + "attn_k", blk + "attn_v")
    if not g.has(blk + "attn_qkv.weight"):
        q, k, v = (linear(g, x, name, size) for name, size in zip(names, sizes, strict=True))
        return q, k, v
    fused = linear(g, x, blk + "attn_qkv", sum(sizes))
    # separate biases may stand beside a fused matrix that has none of its own
    own_biases = not g.has(blk + "attn_qkv.bias") and all(g.has(f"{n}.bias") for n in names)
    parts, start = [], 0
    for name, size in zip(names, sizes, strict=True):
        step = f"{name}.columns" if own_biases else name
        part = g.columns(fused, start, start + size, name=step)
        parts.append(g.add_bias(part, f"{name}.bias", name=name) if own_biases else part)
        start += size
    return parts[0], parts[1], parts[2]


def rope_of(g: GraphBuilder, config: ModelConfig, kind: str) -> Rotation:
    """The rotation that the metadata and the tensor "rope_freqs.weight" ask for."""
    name = "rope_freqs.weight"
    factors = g.values(name, (config.rotary_dim // 2,)) if g.has(name) else None
    return rotation(kind, config.rotary_dim, config.rope_theta, config.rope_scaling, factors)


def long_rope_of(g: GraphBuilder, config: ModelConfig, kind: str) -> Rotation:
    """The rotation with the factors for short or for long contexts, by the context of this run.

    Source: Ding et al., "LongRoPE", 2024.
    """
    scaling = config.rope_scaling
    is_long = g.n_ctx > scaling.original_max_position_embeddings
    name = f"rope_factors_{'long' if is_long else 'short'}.weight"
    factors = g.values(name, (config.rotary_dim // 2,)) if g.has(name) else None
    return rotation(kind, config.rotary_dim, config.rope_theta, scaling, factors)


def head_norms(
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


def turn(
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


def attention_output(
    g: GraphBuilder, z: Value, config: ModelConfig, i: int, *, bias: bool = False
) -> Value:
    """The output matrix of the attention: [T, n]. `bias`: use its bias if there is one."""
    name = f"blk.{i}.attn_out"
    return linear(g, z, f"{name}put", config.hidden_size, bias=bias, as_name=name)


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
    """Attention and its output matrix: [T, n]; see `attention` and `attention_output`."""
    z = attention(g, q, k, v, config, i, **rules)
    return attention_output(g, z, config, i, bias=bias)


def norm(g: GraphBuilder, x: Value, config: ModelConfig, name: str, tensor: str = "") -> Value:
    """RMS norm with the tensor `tensor`.weight, by default the one called `name`."""
    return g.rms_norm(x, f"{tensor or name}.weight", eps=config.rms_norm_eps, name=name)


def gated_mlp(
    g: GraphBuilder,
    x: Value,
    config: ModelConfig,
    i: int,
    *,
    act: str = "silu",
    bias: bool = False,
    scale: bool = False,
) -> Value:
    """down(act(gate(x)) * up(x)): [rows, n]. `bias` and `scale`: use such tensors if there are."""
    blk, n_ff = f"blk.{i}.", config.intermediate_size[i]
    return network(
        g, x, blk + "ffn_", "", n_ff, unit=Unit(act), bias=bias, scale=scale, name=blk + "ffn_out"
    )


def moe(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """A router and its experts, their weights normalized to sum 1: [rows, n]."""
    return mixture(g, x, config, i, Routing(config.num_experts_per_tok), scale=True)


def n_layers_of(config: ModelConfig) -> int:
    """Layers of the model itself: without those that predict further tokens."""
    return config.num_hidden_layers - config.metadata.get("nextn_predict_layers", int, 0)


def layer(g: GraphBuilder, x: Value, config: ModelConfig, blocks: Blocks, i: int) -> Value:
    """x + attention(norm(x)), then x + network(norm(x)): [T, n]."""
    h = blocks.attention(norm(g, x, config, f"blk.{i}.attn_norm"), i)
    x = g.add(x, h, name=f"blk.{i}.ffn_inp")
    h = blocks.network(norm(g, x, config, f"blk.{i}.ffn_norm", f"blk.{i}.{blocks.ffn_norm}"), i)
    return g.add(x, h, name=f"blk.{i}.l_out")


def decoder(
    g: GraphBuilder,
    config: ModelConfig,
    attention: Block,
    network: Block,
    ffn_norm: str = "ffn_norm",
) -> None:
    """Add embeddings, the layers of the model itself and logits; see `Blocks`."""
    blocks, x = Blocks(attention, network, ffn_norm), embeddings(g, config)
    for i in range(n_layers_of(config)):
        x = layer(g, x, config, blocks, i)
    logits(g, x, config)


def normed_outputs(g: GraphBuilder, x: Value, norm: Callable[[Value, str], Value]) -> Value:
    """The wanted rows behind the final norm: [O, n].

    All rows are normalized if blocks will read them, to predict further tokens.
    """
    if not g.with_hidden:
        return norm(g.select_outputs(x, name="output_rows"), "output_norm")
    x = norm(x, "output_norm")
    g.hidden = x.name
    return g.select_outputs(x, name="output_rows")


def logits(g: GraphBuilder, x: Value, config: ModelConfig, *, name: str = "output") -> Value:
    """Final norm and output matrix of the wanted rows: [O, vocab_size].

    A file without "output.weight" uses its embedding table.
    """
    x = normed_outputs(g, x, lambda x, name: norm(g, x, config, name))
    if g.has("output.weight"):
        return linear(g, x, "output", config.vocab_size, as_name=name)
    return g.matmul(x, "token_embd.weight", name=name, width=config.vocab_size)


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
