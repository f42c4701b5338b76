"""Nomic Embed: "nomic-bert". Source: Nussbaum et al., "Nomic Embed", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _encoder as encoder
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _rope as ropes


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a BERT with rope and a gated network."""
    rotation = ropes.plain_rope(config, "neox")
    encoder.bert(g, config, encoder.embeddings(g, config), mlp.gated_mlp, rotation=rotation)
