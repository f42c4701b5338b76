"""OpenELM: "openelm". Source: Mehta et al., "OpenELM", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: numbers of heads and columns differ between layers; heads are normalized."""
    rotation = nn.rope_of(g, config, "neox")
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        h = nn.norm(g, x, config, f"blk.{i}.attn_norm")
        q, k, v = blocks.fused_qkv(g, h, config, i)
        q, k = nn.head_norms(g, q, k, config, i)
        q, k = nn.turn(g, q, k, rotation, config, i)
        h = nn.attend(g, q, k, v, config, i)
        x = g.add(x, h, name=f"blk.{i}.ffn_inp")

        h = nn.norm(g, x, config, f"blk.{i}.ffn_norm")
        h = nn.gated_mlp(g, h, config, i)
        x = g.add(x, h, name=f"blk.{i}.l_out")
    nn.logits(g, x, config)
