"""BERT, and RoBERTa, MiniLM, BGE, E5 and others made alike: "bert".

Source: Devlin et al., "BERT", 2019.
"""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _encoder as encoder


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: learned positions, norms after the sums, a network without a gate."""
    encoder.bert(g, config, encoder.embeddings(g, config, positions=True), encoder.gelu_mlp)
