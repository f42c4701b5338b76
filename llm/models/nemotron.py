"""Nemotron 3, 4 and Minitron: "nemotron". Source: NVIDIA, "Nemotron-4 15B", 2024."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: layer norms, half of each head turned, squared ReLU without a gate."""
    rotation = nn.rope_of(g, config, "neox")

    def norm(x: Value, name: str) -> Value:
        return blocks.layer_norm(g, x, config, name)

    def attention(x: Value, i: int) -> Value:
        return blocks.attend(g, x, config, i, rotation, bias=True)

    def network(x: Value, i: int) -> Value:
        return blocks.plain_mlp(g, x, config, i, act="relu", squared=True)

    x = dense.in_turn(g, nn.embeddings(g, config), config, norm, attention, network)
    dense.logits(g, x, config, norm)
