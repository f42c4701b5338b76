"""XVERSE: "xverse". Source: XVERSE Technology, "XVERSE-13B", 2023."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes of a Llama."""
    rotation = ropes.plain_rope(config, "norm")
    stack.llama(g, config, nn.embeddings(g, config), rotation=rotation)
