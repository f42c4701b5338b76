"""Pieces of T5's encoder and decoder.

Source: Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
Transformer", 2020; gated networks: T5 1.1. Tensors of layer i begin with "enc.blk.{i}." or
"dec.blk.{i}."; `blk` is what the names of its nodes begin with.
"""

import numpy as np
import numpy.typing as npt

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import Floats, GraphBuilder
from jitllm.llm.models import _nn as nn

MAX_DISTANCE = 128
"""Positions further apart than this are all alike."""


def buckets(n_buckets: int, *, causal: bool) -> npt.NDArray[np.intp]:
    """Return the bucket of each distance d = -128 to 128 of a key from the query.

    Half of the buckets are for one distance each, the others for ranges that grow with it. Keys
    behind the query (d > 0) have buckets of their own, unless `causal`, where none are seen.
    """
    distances = np.arange(-MAX_DISTANCE, MAX_DISTANCE + 1)
    own = n_buckets if causal else n_buckets // 2
    behind = np.where(distances > 0, 0 if causal else own, 0)
    length, exact = np.abs(np.minimum(distances, 0) if causal else distances), own // 2
    growth = np.log(np.maximum(length, exact) / exact) / np.log(MAX_DISTANCE / exact)
    far = np.minimum(exact + (growth * (own - exact)).astype(np.intp), own - 1)
    return behind + np.where(length < exact, length, far)


def distance_table(
    g: GraphBuilder, config: ModelConfig, stack: str, i: int, *, causal: bool
) -> Floats:
    """What distances add to the scores of layer i: [H, 2 * 128 + 1].

    `stack` is "enc" or "dec". A layer without a table of its own has that of layer 0.
    """
    n_buckets = config.metadata.get("attention.relative_buckets_count", int)
    if not 4 <= n_buckets <= 2 * MAX_DISTANCE:
        raise ModelFormatError(
            f"key '{config.architecture}.attention.relative_buckets_count': expected 4 to "
            f"{2 * MAX_DISTANCE}, got {n_buckets}"
        )
    name = f"{stack}.blk.{i}.attn_rel_b.weight"
    name = name if g.has(name) else f"{stack}.blk.0.attn_rel_b.weight"
    values = g.values(name, (n_buckets, config.num_attention_heads[0]))
    return np.ascontiguousarray(values[buckets(n_buckets, causal=causal)].T)


def projected(
    g: GraphBuilder, x: Value, config: ModelConfig, tensors: str, names: str, parts: str
) -> list[Value]:
    """x times the matrices of heads, those of `parts` ("q", "k", "v"): each [T, H * d]."""
    heads, kv_heads = config.num_attention_heads[0], config.num_key_value_heads[0]
    widths = {
        "q": heads * config.head_dim,
        "k": kv_heads * config.head_dim,
        "v": kv_heads * config.v_head_dim,
    }
    return [
        nn.linear(g, x, f"{tensors}{part}", widths[part], bias=False, as_name=f"{names}{part}")
        for part in parts
    ]


def self_attention(
    g: GraphBuilder, x: Value, config: ModelConfig, stack: str, blk: str, i: int
) -> Value:
    """x + attention(norm(x)): [T, n]. A decoder ("dec") sees what was, an encoder everything."""
    tensors, causal = f"{stack}.blk.{i}.", stack == "dec"
    h = nn.rms_norm(g, x, config, f"{blk}attn_norm", f"{tensors}attn_norm")
    q, k, v = projected(g, h, config, f"{tensors}attn_", f"{blk}attn_", "qkv")
    z = g.attention(
        q, k, v, n_heads=config.num_attention_heads[0], n_kv_heads=config.num_key_value_heads[0],
        scale=1.0, table=distance_table(g, config, stack, i, causal=causal), causal=causal,
        cache=causal, name=f"{blk}kqv_out",
    )  # fmt: skip
    h = nn.linear(g, z, f"{tensors}attn_o", x.width, bias=False, as_name=f"{blk}attn_out")
    return g.add(x, h, name=f"{blk}cross_inp" if causal else f"{blk}ffn_inp")


def network(g: GraphBuilder, x: Value, config: ModelConfig, tensors: str, blk: str) -> Value:
    """x + network(norm(x)): [T, n]. The network has GELU where it has a gate, else ReLU."""
    n_ff = config.intermediate_size[0]
    h = nn.rms_norm(g, x, config, f"{blk}ffn_norm", f"{tensors}ffn_norm")
    up = nn.linear(g, h, f"{tensors}ffn_up", n_ff, bias=False, as_name=f"{blk}ffn_up")
    if g.has(f"{tensors}ffn_gate.weight"):
        gate = nn.linear(g, h, f"{tensors}ffn_gate", n_ff, bias=False, as_name=f"{blk}ffn_gate")
        h = g.glu(gate, up, act="gelu", name=f"{blk}ffn_act")
    else:
        h = g.activation(up, act="relu", name=f"{blk}ffn_act")
    h = nn.linear(g, h, f"{tensors}ffn_down", x.width, bias=False, as_name=f"{blk}ffn_out")
    return g.add(x, h, name=f"{blk}l_out")


def encoder(g: GraphBuilder, config: ModelConfig, names: str = "") -> Value:
    """All layers of an encoder and its last norm: [T, n]. All names begin with `names`."""
    x = g.embed("token_embd.weight", width=config.hidden_size, name=f"{names}token_embd")
    for i in range(config.num_hidden_layers):
        blk = f"{names}blk.{i}."
        x = self_attention(g, x, config, "enc", blk, i)
        x = network(g, x, config, f"enc.blk.{i}.", blk)
    return nn.rms_norm(g, x, config, f"{names}output_norm", "enc.output_norm")
