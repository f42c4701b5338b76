"""MiMo V2: "mimo2". Source: Xiaomi, "MiMo-V2-Flash Technical Report", 2026."""

import dataclasses

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nextn as nextn
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack

WINDOW_THETA = 10000.0


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: windows on most layers, with fewer heads and sinks; experts with a bias."""
    stack.decoder(g, config, *_blocks(g, config))
    nextn.reads_sums(g, config)


def build_mtp(g: GraphBuilder, config: ModelConfig, block: int) -> None:
    """Add the nodes of block `block` that predicts further tokens."""
    nextn.head(g, config, block, _blocks(g, config), normed=False)


def _blocks(g: GraphBuilder, config: ModelConfig) -> stack.Blocks:
    meta, windows = config.metadata, attn.windows_of(config, 0)
    whole = ropes.plain_rope(config, "neox")
    local = ropes.window_rotation(config, "neox", theta=WINDOW_THETA, scaled=False)
    value_scale = meta.get("attention.value_scale", float, 1.0)

    def attention(x: Value, i: int) -> Value:
        q, k, v = _heads(g, x, config, i)
        q, k = attn.rope(g, q, k, local if windows[i] else whole, config, i)
        sinks = g.optional(f"blk.{i}.attn_sinks.weight")
        h = attn.attend(g, q, k, v, config, i, window=windows[i], sinks=sinks)
        return nn.scaled(g, h, value_scale, f"blk.{i}.attn_out_scaled")

    def network(x: Value, i: int) -> Value:
        if not g.has(f"blk.{i}.ffn_gate_inp.weight"):
            return mlp.gated_mlp(g, x, config, i)
        routing = dataclasses.replace(
            moe.softmax_routing(config, norm=True),
            gating="sigmoid",
            bias=g.optional(f"blk.{i}.exp_probs_b.bias"),
        )
        return moe.mixture(g, x, config, i, routing)

    return stack.Blocks(attention, network)


def _heads(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> attn.Heads:
    """Queries, keys and values, without scales and biases; their matrices may be one."""
    if g.has(f"blk.{i}.attn_qkv.weight"):
        return attn.fused_qkv(g, x, config, i)
    n_kv = config.num_key_value_heads[i]
    widths = {
        "q": config.num_attention_heads[i] * config.head_dim,
        "k": n_kv * config.head_dim,
        "v": n_kv * config.v_head_dim,
    }
    q, k, v = (
        g.matmul(x, f"blk.{i}.attn_{part}.weight", width=width, name=f"blk.{i}.attn_{part}")
        for part, width in widths.items()
    )
    return q, k, v
