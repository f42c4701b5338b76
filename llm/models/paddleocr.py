"""The language model of PaddleOCR-VL: "paddleocr". Source: Baidu, "PaddleOCR-VL", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: ERNIE 4.5 with rope in sections, which for text is common rope."""
    rotation = nn.rope_of(g, config, "neox")

    def attention(x: Value, i: int) -> Value:
        return blocks.attend(g, x, config, i, rotation, bias=True)

    def network(x: Value, i: int) -> Value:
        return nn.gated_mlp(g, x, config, i)

    nn.decoder(g, config, attention, network)
