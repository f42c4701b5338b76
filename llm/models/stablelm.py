"""StableLM 3B, 2 and 12B: "stablelm". Source: Bellagente et al., "Stable LM 2 1.6B", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: layer norms; in the 12B model heads are normalized, blocks side by side."""
    rotation = dense.plain_rope(config, "neox")
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        normed = dense.layer_norm(g, x, config, f"blk.{i}.attn_norm")
        q, k, v = nn.qkv(g, normed, config, i)
        q, k = dense.head_layer_norms(g, q, k, config, i)
        q, k = nn.turn(g, q, k, rotation, config, i)
        h = nn.attend(g, q, k, v, config, i)
        x = g.add(x, h, name=f"blk.{i}.ffn_inp")
        if g.has(f"blk.{i}.ffn_norm.weight"):
            normed = dense.layer_norm(g, x, config, f"blk.{i}.ffn_norm")
        h = nn.gated_mlp(g, normed, config, i)
        x = g.add(x, h, name=f"blk.{i}.l_out")
    dense.logits(g, x, config, lambda x, name: dense.layer_norm(g, x, config, name))
