"""Baichuan 1 and 2: "baichuan". Source: Yang et al., "Baichuan 2", 2023."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack

LAYERS_13B = 40
MAX_ALIBI_BIAS = 8.0


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama; the 13B model has ALiBi in place of rope."""
    x = nn.embeddings(g, config)
    if config.num_hidden_layers == LAYERS_13B:
        stack.llama(g, config, x, max_alibi_bias=MAX_ALIBI_BIAS)
    else:
        stack.llama(g, config, x, rotation=ropes.plain_rope(config, "norm"))
