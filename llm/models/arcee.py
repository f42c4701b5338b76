"""Arcee Foundation Models: "arcee". Source: Arcee AI, "AFM-4.5B", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama whose feed-forward network squares a ReLU and has no gate.

    Squared ReLU: So et al., "Primer", 2021.
    """
    rotation = nn.rope_of(g, config, "norm")

    def attention(x: Value, i: int) -> Value:
        return blocks.attend(g, x, config, i, rotation)

    def network(x: Value, i: int) -> Value:
        return blocks.plain_mlp(g, x, config, i, act="relu", squared=True)

    nn.decoder(g, config, attention, network)
