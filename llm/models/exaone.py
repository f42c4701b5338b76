"""EXAONE 3 and 3.5: "exaone". Source: LG AI Research, "EXAONE 3.0 7.8B", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama, pairs of rope half a head apart, with factors of frequencies."""
    rotation = ropes.any_rope_of(g, config, "neox")
    stack.llama(g, config, nn.embeddings(g, config), rotation=rotation, attention_bias=True)
