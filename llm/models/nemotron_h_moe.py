"""Nemotron H with experts: "nemotron_h_moe". Source: NVIDIA, "Nemotron 3", 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import nemotron_h


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: Nemotron H, whose networks say by their tensors whether they are experts."""
    nemotron_h.build(g, config)
