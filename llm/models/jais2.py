"""Jais 2: "jais2". Source: Inception and MBZUAI, "Jais 2", 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: layer norms, rope, squared ReLU without a gate."""
    rotation = ropes.plain_rope(config, "neox")
    stack.gpt(g, config, nn.embeddings(g, config), rotation=rotation, act="relu_squared")
