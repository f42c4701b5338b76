"""Qwen 3, dense: "qwen3". Source: Yang et al., "Qwen3 Technical Report", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: heads of q and k are normalized before rope."""
    rotation = nn.rope_of(g, config, "neox")

    def attention(x: Value, i: int) -> Value:
        return blocks.attend(g, x, config, i, rotation, head_norms=True)

    def network(x: Value, i: int) -> Value:
        return nn.gated_mlp(g, x, config, i, scale=True)

    nn.decoder(g, config, attention, network)
