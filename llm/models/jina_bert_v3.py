"""Jina Embeddings 3: "jina-bert-v3". Source: Sturua et al., "jina-embeddings-v3", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _encoder as encoder
from jitllm.llm.models import _rope as ropes


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a BERT with rope. What a file's adapters would add is not computed."""
    rotation = ropes.plain_rope(config, "neox")
    encoder.bert(g, config, encoder.embeddings(g, config), encoder.gelu_mlp, rotation=rotation)
