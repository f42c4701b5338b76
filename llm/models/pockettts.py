"""The text side of Pocket TTS: "pockettts". Source: Kyutai, "Pocket TTS", 2026."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: layer norms and a network without gate.

    The model has no output matrix: what counts is "output_norm", which its flow network reads. The
    embedding table stands in for it.
    """
    rotation = nn.rope_of(g, config, "norm")

    def norm(x: Value, name: str) -> Value:
        return blocks.layer_norm(g, x, config, name)

    def attention(x: Value, i: int) -> Value:
        return blocks.attend(g, x, config, i, rotation)

    def network(x: Value, i: int) -> Value:
        return blocks.plain_mlp(g, x, config, i, act="gelu")

    x = dense.in_turn(g, nn.embeddings(g, config), config, norm, attention, network)
    dense.logits(g, x, config, norm)
