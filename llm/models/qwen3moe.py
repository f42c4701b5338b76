"""Qwen 3 with experts: "qwen3moe". Source: Yang et al., "Qwen3 Technical Report", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: Qwen 3 whose feed-forward networks are all experts."""
    rotation = nn.rope_of(g, config, "neox")

    def attention(x: Value, i: int) -> Value:
        return blocks.attend(g, x, config, i, rotation, head_norms=True)

    def network(x: Value, i: int) -> Value:
        return nn.moe(g, x, config, i)

    nn.decoder(g, config, attention, network)
