"""Gemma 1: "gemma". Source: Gemma Team, "Gemma", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _gemma as gemma


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama with scaled embeddings and GELU."""
    x, rotation = gemma.embeddings(g, config), dense.plain_rope(config, "neox")
    dense.llama(g, config, x, rotation=rotation, act="gelu")
