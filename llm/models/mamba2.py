"""Mamba's second form: "mamba2". Source: Dao and Gu, "Transformers are SSMs", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _layers as nn
from jitllm.llm.models._mamba import mamba2


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: layers without attention and without feed-forward networks."""
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        h = mamba2(g, nn.norm(g, x, config, f"blk.{i}.attn_norm"), config, i)
        x = g.add(x, h, name=f"blk.{i}.l_out")
    nn.logits(g, x, config)
