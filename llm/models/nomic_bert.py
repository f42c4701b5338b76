"""Nomic Embed: "nomic-bert". Source: Nussbaum et al., "Nomic Embed", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _encoder as encoder
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a BERT with rope and a gated network."""
    rotation = dense.plain_rope(config, "neox")
    encoder.bert(g, config, encoder.embeddings(g, config), nn.gated_mlp, rotation=rotation)
