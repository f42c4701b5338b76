"""The language model of CogVLM: "cogvlm". Source: Wang et al., "CogVLM", 2023."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import rotation
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _layers as nn

THETA = 10000.0


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes for text; the second set of matrices, for images, is not used."""
    turned = rotation("neox", config.head_dim, THETA)

    def attention(x: Value, i: int) -> Value:
        q, k, v = blocks.fused_qkv(g, x, config, i)
        q, k = nn.turn(g, q, k, turned, config, i)
        return nn.attend(g, q, k, v, config, i)

    def network(x: Value, i: int) -> Value:
        return nn.gated_mlp(g, x, config, i)

    nn.decoder(g, config, attention, network)
