"""BLOOM: "bloom". Source: BigScience Workshop, "BLOOM", 2022."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _stack as stack

MAX_ALIBI_BIAS = 8.0


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a norm behind the embeddings, ALiBi in place of positions."""
    x = nn.layer_norm(g, nn.embeddings(g, config), config, "token_embd_norm")
    stack.gpt(g, config, x, max_alibi_bias=MAX_ALIBI_BIAS)
