"""LFM2 with experts: "lfm2moe". Source: Liquid AI, "LFM2", 2025."""

from dataclasses import replace

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models._lfm2 import layers
from jitllm.llm.models._moe import routed, routing_of


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: gated networks in the leading layers, experts in the others."""
    n_dense = config.metadata.get("leading_dense_block_count", int, 0)

    def feed_forward(x: Value, i: int) -> Value:
        if i < n_dense:
            return mlp.gated_mlp(g, x, config, i)
        routing = replace(routing_of(g, config, i, "sigmoid"), norm=True, factor=1.0)
        return routed(g, x, config, i, routing)

    layers(g, config, feed_forward)
