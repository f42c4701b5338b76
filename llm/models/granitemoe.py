"""Granite 3 with experts: "granitemoe". Source: IBM, "Granite 3.0 Language Models", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _granite as granite


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Granite whose layers all have rope and no window."""
    n = config.num_hidden_layers
    granite.build(g, config, (0,) * n, (True,) * n)
