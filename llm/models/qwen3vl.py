"""The language model of Qwen 3 VL: "qwen3vl". Source: Bai et al., "Qwen3-VL", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: Qwen 3 with rope in sections, which for text is common rope."""
    nn.logits(g, layers(g, config), config)


def layers(g: GraphBuilder, config: ModelConfig) -> Value:
    """What the last layer gives: [T, n]."""
    rotation = nn.rope_of(g, config, "neox")

    def attention(x: Value, i: int) -> Value:
        return blocks.attend(g, x, config, i, rotation, head_norms=True)

    def network(x: Value, i: int) -> Value:
        return nn.gated_mlp(g, x, config, i)

    x, parts = nn.embeddings(g, config), nn.Blocks(attention, network)
    for i in range(config.num_hidden_layers):
        x = nn.layer(g, x, config, parts, i)
    return x
