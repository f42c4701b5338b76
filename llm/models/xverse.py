"""XVERSE: "xverse". Source: XVERSE Technology, "XVERSE-13B", 2023."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes of a Llama."""
    rotation = dense.plain_rope(config, "norm")
    dense.llama(g, config, nn.embeddings(g, config), rotation=rotation)
