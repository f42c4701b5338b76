"""Mamba's first form, and Falcon Mamba: "mamba". Source: Gu and Dao, "Mamba", 2023."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models._mamba import mamba, single_blocks


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: layers without attention and without feed-forward networks."""
    single_blocks(g, config, lambda x, i: mamba(g, x, config, i))
