"""Orion: "orion". Source: Chen et al., "Orion-14B", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama with layer norms."""
    dense.llama(
        g,
        config,
        nn.embeddings(g, config),
        rotation=dense.plain_rope(config, "neox"),
        norm=lambda x, name: dense.layer_norm(g, x, config, name),
    )
