"""Spark 2.5: "spark2_5". Source: iFLYTEK, "Spark 2.5", 2026."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: windows by a flag for each layer, a gate for each head, GELU."""
    whole, local = nn.rope_of(g, config, "neox"), blocks.window_rotation(config, "neox")
    x = nn.embeddings(g, config)
    for i, window in enumerate(nn.windows_of(config, 0)):
        blk = f"blk.{i}."
        normed = nn.norm(g, x, config, blk + "attn_norm")
        q, k, v = nn.qkv(g, normed, config, i)
        q, k = nn.turn(g, q, k, local if window else whole, config, i)
        z = nn.attention(g, q, k, v, config, i, window=window)
        n_heads = config.num_attention_heads[i]
        h = blocks.gated_attention_output(g, z, normed, config, i, width=n_heads)
        x = g.add(x, h, name=blk + "ffn_inp")

        h = nn.norm(g, x, config, blk + "ffn_norm")
        h = nn.gated_mlp(g, h, config, i, act="gelu")
        x = g.add(x, h, name=blk + "l_out")
    nn.logits(g, x, config)
