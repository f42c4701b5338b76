"""The encoder of a T5 alone: "t5encoder". Source: Raffel et al., "T5", 2020."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _t5 as t5


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes."""
    g.select_outputs(t5.encoder(g, config), name="hidden_states")
