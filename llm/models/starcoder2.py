"""StarCoder 2: "starcoder2". Source: Lozhkov et al., "StarCoder 2", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: layer norms and biases of a GPT-2, with rope."""
    rotation = ropes.plain_rope(config, "neox")
    stack.gpt(g, config, nn.embeddings(g, config), rotation=rotation)
