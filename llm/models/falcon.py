"""Falcon: "falcon". Source: Almazrouei et al., "The Falcon Series of Open Models", 2023."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: attention and network side by side, of one norm (7B) or two (40B)."""
    rotation = dense.plain_rope(config, "neox")
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        blk = f"blk.{i}."
        normed = h = dense.layer_norm(g, x, config, blk + "attn_norm")
        if g.has(blk + "attn_norm_2.weight"):
            h = dense.layer_norm(g, x, config, blk + "attn_norm_2")
        heads = dense.turned_qkv(g, h, config, rotation, i)
        attention = nn.attend(g, *heads, config, i)
        network = blocks.plain_mlp(g, normed, config, i, act="gelu")
        x = dense.side_by_side(g, x, attention, network, i)
    dense.logits(g, x, config, lambda x, name: dense.layer_norm(g, x, config, name))
