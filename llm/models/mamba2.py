"""Mamba's second form: "mamba2". Source: Dao and Gu, "Transformers are SSMs", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models._mamba import mamba2, single_blocks


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: layers without attention and without feed-forward networks."""
    single_blocks(g, config, lambda x, i: mamba2(g, x, config, i))
