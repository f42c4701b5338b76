"""Qwen 3.5, mixtures of experts: "qwen35moe". Source: Qwen Team, "Qwen3.5", 2026."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _qwen35 as qwen35
from jitllm.llm.models._shared_expert import gated_shared


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: delta nets, every fourth layer attention with an output gate, experts."""
    qwen35.layers(g, config, lambda x, i: gated_shared(g, x, config, i))
