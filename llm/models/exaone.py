"""EXAONE 3 and 3.5: "exaone". Source: LG AI Research, "EXAONE 3.0 7.8B", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama, pairs of rope half a head apart, with factors of frequencies."""
    rotation = dense.rope(g, config, "neox")
    dense.llama(g, config, nn.embeddings(g, config), rotation=rotation, attention_bias=True)
