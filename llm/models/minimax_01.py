"""MiniMax 01, linear attention with a decay in most layers: "minimax-01".

Source: MiniMax, "MiniMax-01", 2025; Qin et al., "Lightning Attention-2", 2024.
"""

import numpy as np

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import Floats, GraphBuilder
from jitllm.llm.graph.rope import rotation
from jitllm.llm.graph.words.experts import Routing
from jitllm.llm.graph.words.heads import head_columns
from jitllm.llm.graph.words.ssm import ssm_scan
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _nn as nn
from jitllm.llm.models._moe import routed

FULL_ATTENTION_EVERY = 8  # where the file does not say


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: what goes around a block is the block's normalized input, scaled."""
    turns = rotation("neox", config.rotary_dim, config.rope_theta, config.rope_scaling)
    linear, around = _linear_layers(config), config.metadata.get("residual_scale", float)
    routing = Routing(config.num_experts_per_tok)
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        blk = f"blk.{i}."
        x = nn.rms_norm(g, x, config, blk + "attn_norm")
        if linear[i]:
            h = _lightning(g, x, config, i)
        else:
            q, k, v = attn.qkv(g, x, config, i)
            q, k = attn.rope(g, q, k, turns, config, i)
            h = attn.attend(g, q, k, v, config, i)
        x = g.add(h, g.scale(x, around, name=blk + "attn_around"), name=blk + "ffn_inp")

        x = nn.rms_norm(g, x, config, blk + "ffn_norm")
        h = routed(g, x, config, i, routing)
        x = g.add(h, g.scale(x, around, name=blk + "ffn_around"), name=blk + "l_out")
    lm_head.logits(g, x, config)


def _linear_layers(config: ModelConfig) -> tuple[bool, ...]:
    """Which layers have linear attention."""
    n, meta = config.num_hidden_layers, config.metadata
    key = "attention.recurrent_layers"
    if f"{meta.architecture}.{key}" in meta.values:
        return meta.per_layer(key, bool, n)
    period = max(1, meta.get("full_attention_interval", int, FULL_ATTENTION_EVERY))
    return tuple((i + 1) % period != 0 for i in range(n))


def decays(n_heads: int, layer: int, n_layers: int) -> Floats:
    """Logarithm of what a head keeps of its state at each token: float32 [H], all negative.

    Heads forget by slopes as in ALiBi (Press et al., 2021), later layers less than earlier ones.
    """
    start = 2.0 ** -(2.0 ** -(np.log2(n_heads) - 3))
    slopes = start ** np.arange(1, n_heads + 1)
    rates = -slopes * (1 - layer / max(1, n_layers - 1) + 1e-5)
    return np.asarray(rates, np.float32)


def _lightning(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """A state k v^T for each head that decays at every token, read by q: [T, n]."""
    blk, heads, size = f"blk.{i}.", config.num_attention_heads[i], config.head_dim
    width = heads * size
    qkv = g.matmul(x, blk + "attn_qkv.weight", width=3 * width, name=blk + "attn_qkv")
    qkv = g.activation(qkv, act="silu", name=blk + "attn_qkv_act")
    q, k, v = (
        head_columns(g, qkv, j * size, (j + 1) * size, n_heads=heads, name=f"{blk}attn_{part}")
        for j, part in enumerate("qkv")
    )
    rates = decays(heads, i, config.num_hidden_layers)
    z = ssm_scan(g, v, k, q, n_heads=heads, n_groups=heads, a=rates, name=blk + "kqv_out")
    z = nn.rms_norm(g, z, config, blk + "attn_norm_2")
    gate = g.matmul(x, blk + "attn_gate.weight", width=width, name=blk + "attn_gate")
    z = g.glu(gate, z, act="sigmoid", name=blk + "kqv_gated")
    name = blk + "attn_output.weight"
    return g.matmul(z, name, width=config.hidden_size, name=blk + "attn_out")
