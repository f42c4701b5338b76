"""Jais: "jais". Source: Sengupta et al., "Jais and Jais-chat", 2023."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: ALiBi, gated units with biases, scores divided by the size of a head.

    Factors of the model's embeddings and logits are part of the file's matrices.
    """
    max_alibi_bias = config.metadata.get("attention.max_alibi_bias", float, 0.0)

    def norm(x: Value, name: str) -> Value:
        return dense.layer_norm(g, x, config, name)

    def attention(x: Value, i: int) -> Value:
        heads, scale = nn.qkv(g, x, config, i), 1 / config.head_dim
        return nn.attend(
            g, *heads, config, i, bias=True, scale=scale, max_alibi_bias=max_alibi_bias
        )

    def network(x: Value, i: int) -> Value:
        return nn.gated_mlp(g, x, config, i, bias=True)

    x = dense.in_turn(g, nn.embeddings(g, config), config, norm, attention, network)
    dense.logits(g, x, config, norm)
