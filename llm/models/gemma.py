"""Gemma 1: "gemma". Source: Gemma Team, "Gemma", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _gemma as gemma
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama with scaled embeddings and GELU."""
    x, rotation = gemma.embeddings(g, config), ropes.plain_rope(config, "neox")
    stack.llama(g, config, x, rotation=rotation, act="gelu")
