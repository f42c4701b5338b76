"""Gemma 1: "gemma". Source: Gemma Team, "Gemma", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama with scaled embeddings and GELU."""
    x = g.scale(nn.embeddings(g, config), config.hidden_size**0.5, name="inp_scaled")
    dense.llama(g, config, x, rotation=dense.plain_rope(config, "neox"), act="gelu")
