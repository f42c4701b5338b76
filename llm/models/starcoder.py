"""StarCoder and SantaCoder: "starcoder". Source: Li et al., "StarCoder", 2023."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a GPT-2 whose query heads share keys."""
    stack.gpt(g, config, nn.with_positions(g, nn.embeddings(g, config), config))
