"""MPT: "mpt". Source: MosaicML, "Introducing MPT-7B", 2023."""

import numpy as np

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.ssm import column_scale
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: ALiBi or learned positions, perhaps bounds and norms of q and k."""
    max_alibi_bias = config.metadata.get("attention.max_alibi_bias", float, 0.0)

    def norm(x: Value, name: str) -> Value:
        return nn.layer_norm(g, x, config, name)

    def attention(x: Value, i: int) -> Value:
        q, k, v = attn.clamped_qkv(g, x, config, i)
        if g.has(f"blk.{i}.attn_q_norm.weight"):
            q, k = norm(q, f"blk.{i}.attn_q_norm"), norm(k, f"blk.{i}.attn_k_norm")
        return attn.attend(g, q, k, v, config, i, bias=True, max_alibi_bias=max_alibi_bias)

    x = nn.embeddings(g, config)
    if g.has("position_embd.weight"):
        x = nn.with_positions(g, x, config)
    x = stack.in_turn(g, x, config, norm, attention, lambda x, i: _network(g, x, config, i))
    lm_head.normed_logits(g, x, config, norm)


def _network(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """down(gelu(up(x)) / scales); the scales, of files made by AWQ, are optional."""
    blk, n_ff = f"blk.{i}.", config.intermediate_size[i]

    def project(y: Value, tensor: str, width: int, name: str) -> Value:
        bias = g.optional(f"{blk}{tensor}.bias")
        return g.matmul(y, f"{blk}{tensor}.weight", width=width, bias=bias, name=blk + name)

    scales = f"{blk}ffn.act.scales"
    h = project(x, "ffn_up", n_ff, "ffn_up")
    if g.has(scales):
        h = g.activation(h, act="gelu", name=blk + "ffn_act.unscaled")
        factors = np.reciprocal(g.values(scales, (n_ff,)))
        h = column_scale(g, h, factors, name=blk + "ffn_act")
    else:
        h = g.activation(h, act="gelu", name=blk + "ffn_act")
    return project(h, "ffn_down", config.hidden_size, "ffn_out")
