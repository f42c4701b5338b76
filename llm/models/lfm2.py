"""LFM2, attention among short convolutions: "lfm2". Source: Liquid AI, "LFM2", 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models._lfm2 import layers


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a gated network in every layer."""
    layers(g, config, lambda x, i: mlp.gated_mlp(g, x, config, i), window=config.sliding_window)
