"""Jamba, few layers of attention among many of Mamba: "jamba". Source: Lieber et al., 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.experts import Routing
from jitllm.llm.models import _layers as nn
from jitllm.llm.models._mamba import mamba
from jitllm.llm.models._moe import routed


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: attention without rope, and experts in the layers that have a router."""
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        blk = f"blk.{i}."
        h = nn.norm(g, x, config, blk + "attn_norm")
        if config.num_key_value_heads[i]:
            q, k, v = nn.qkv(g, h, config, i)
            h = nn.attend(g, q, k, v, config, i)
        else:
            h = mamba(g, h, config, i)
        x = g.add(x, h, name=blk + "ffn_inp")

        h = nn.norm(g, x, config, blk + "ffn_norm")
        if g.has(blk + "ffn_gate_inp.weight"):
            routing = Routing(config.num_experts_per_tok, norm=False)
            h = routed(g, h, config, i, routing)
        else:
            h = nn.gated_mlp(g, h, config, i)
        x = g.add(x, h, name=blk + "l_out")
    nn.logits(g, x, config)
