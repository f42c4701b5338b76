"""Orion: "orion". Source: Chen et al., "Orion-14B", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama with layer norms."""
    stack.llama(
        g,
        config,
        nn.embeddings(g, config),
        rotation=ropes.plain_rope(config, "neox"),
        norm=lambda x, name: nn.layer_norm(g, x, config, name),
    )
