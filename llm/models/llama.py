"""Llama 1 to 3, Mistral, Mixtral and all models made alike: "llama".

Sources: Touvron et al., "LLaMA", 2023; Jiang et al., "Mixtral of Experts", 2024.
"""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes of a Llama model, dense or with experts."""
    rotation = dense.rope(g, config, "norm")

    def attention(x: Value, i: int) -> Value:
        return blocks.attend(g, x, config, i, rotation, bias=True)

    def feed_forward(x: Value, i: int) -> Value:
        return network(g, x, config, i)

    nn.decoder(g, config, attention, feed_forward)


def network(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """A gated network or experts: [rows, n]."""
    if config.num_experts:
        return nn.moe(g, x, config, i)
    return nn.gated_mlp(g, x, config, i, bias=True, scale=True)
