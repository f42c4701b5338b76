"""Maincoder: "maincoder". Source: Maincode, "Maincoder-1B", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama whose heads of q and k are normalized after rope."""
    rotation = nn.rope_of(g, config, "norm")

    def attention(x: Value, i: int) -> Value:
        q, k, v = nn.qkv(g, x, config, i)
        q, k = nn.turn(g, q, k, rotation, config, i)
        q, k = nn.head_norms(g, q, k, config, i)
        return nn.attend(g, q, k, v, config, i)

    def network(x: Value, i: int) -> Value:
        return nn.gated_mlp(g, x, config, i)

    nn.decoder(g, config, attention, network)
