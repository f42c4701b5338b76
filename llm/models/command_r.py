"""Command R and R+: "command-r". Source: Cohere, "Command R", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: both blocks side by side, norms of heads in R+, a factor of the logits."""
    rotation = dense.plain_rope(config, "norm")
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        h = dense.layer_norm(g, x, config, f"blk.{i}.attn_norm")
        q, k, v = nn.qkv(g, h, config, i)
        q, k = dense.head_layer_norms(g, q, k, config, i)
        q, k = nn.turn(g, q, k, rotation, config, i)
        attention = nn.attend(g, q, k, v, config, i, bias=True)
        network = nn.gated_mlp(g, h, config, i)
        x = dense.side_by_side(g, x, attention, network, i)
    factor = config.metadata.get("logit_scale", float, 0.0) or 1.0
    dense.logits(g, x, config, lambda x, name: dense.layer_norm(g, x, config, name), factor=factor)
