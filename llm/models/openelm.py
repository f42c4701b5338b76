"""OpenELM: "openelm". Source: Mehta et al., "OpenELM", 2024."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: numbers of heads and columns differ between layers; heads are normalized."""
    rotation = nn.rope_of(g, config, "neox")

    def attention(x: Value, i: int) -> Value:
        q, k, v = blocks.fused_qkv(g, x, config, i)
        q, k = nn.head_norms(g, q, k, config, i)
        q, k = nn.turn(g, q, k, rotation, config, i)
        return nn.attend(g, q, k, v, config, i)

    def network(x: Value, i: int) -> Value:
        return nn.gated_mlp(g, x, config, i)

    nn.decoder(g, config, attention, network)
