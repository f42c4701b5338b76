"""Jais 2: "jais2". Source: Inception and MBZUAI, "Jais 2", 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: layer norms, rope, squared ReLU without a gate."""
    rotation = dense.plain_rope(config, "neox")
    dense.gpt(g, config, nn.embeddings(g, config), rotation=rotation, act="relu_squared")
