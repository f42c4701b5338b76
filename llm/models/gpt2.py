"""GPT-2: "gpt2". Source: Radford et al., "Language Models are Unsupervised Multitask Learners",
2019.
"""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: learned positions, layer norms, biases everywhere."""
    dense.gpt(g, config, dense.with_positions(g, nn.embeddings(g, config), config))
