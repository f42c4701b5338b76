"""Granite 3 and 4 without windows: "granite". Source: IBM, "Granite 3.0 Language Models", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _granite


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: all layers have rope, or none has."""
    n = config.num_hidden_layers
    is_turned = config.metadata.get("rope.scaling.finetuned", bool, True)  # what it says here
    _granite.build(g, config, (0,) * n, (is_turned,) * n)
