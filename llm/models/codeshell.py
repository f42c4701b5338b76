"""CodeShell: "codeshell". Source: Xie et al., "CodeShell Technical Report", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: layer norms and biases of a GPT-2, with rope."""
    rotation = dense.plain_rope(config, "neox")
    dense.gpt(g, config, nn.embeddings(g, config), rotation=rotation)
