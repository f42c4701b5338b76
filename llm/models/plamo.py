"""PLaMo: "plamo". Source: Preferred Networks, "PLaMo-13B", 2023."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: attention and feed-forward network side by side behind one norm."""
    rotation = nn.rope_of(g, config, "neox")
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        normed = nn.norm(g, x, config, f"blk.{i}.attn_norm")
        q, k, v = nn.qkv(g, normed, config, i)
        q, k = nn.turn(g, q, k, rotation, config, i)
        h = nn.attend(g, q, k, v, config, i)
        x = g.add(x, h, name=f"blk.{i}.ffn_inp")
        h = nn.gated_mlp(g, normed, config, i)
        x = g.add(x, h, name=f"blk.{i}.l_out")
    nn.logits(g, x, config)
