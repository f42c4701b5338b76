"""GPT-2: "gpt2". Source: Radford et al., "Language Models are Unsupervised Multitask Learners",
2019.
"""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: learned positions, layer norms, biases everywhere."""
    stack.gpt(g, config, nn.with_positions(g, nn.embeddings(g, config), config))
