"""Command R7B and Command A: "cohere2". Source: Cohere, "Command A", 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn

WINDOW_PERIOD = 4  # three layers with a window and rope, then one with neither


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Command R with windows, rope only in layers that have one."""
    rotation = dense.rope(g, config, "norm")
    x = nn.embeddings(g, config)
    for i, window in enumerate(nn.windows_of(config, WINDOW_PERIOD)):
        h = dense.layer_norm(g, x, config, f"blk.{i}.attn_norm")
        heads = dense.turned_qkv(g, h, config, rotation if window else None, i)
        attention = nn.attend(g, *heads, config, i, bias=True, window=window)
        network = nn.gated_mlp(g, h, config, i, scale=True)
        x = dense.side_by_side(g, x, attention, network, i)
    factor = config.metadata.get("logit_scale", float) or 1.0
    dense.logits(g, x, config, lambda x, name: dense.layer_norm(g, x, config, name), factor=factor)
