"""openPangu Embedded: "pangu-embedded". Source: Huawei, "Pangu Embedded", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama with biases in the attention; no factors change its rope."""
    rotation = dense.plain_rope(config, "neox")

    def attention(x: Value, i: int) -> Value:
        return blocks.attend(g, x, config, i, rotation, bias=True)

    def network(x: Value, i: int) -> Value:
        return nn.gated_mlp(g, x, config, i)

    nn.decoder(g, config, attention, network)
