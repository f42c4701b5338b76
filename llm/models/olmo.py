"""OLMo 1: "olmo". Source: Groeneveld et al., "OLMo", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama whose layer norms have no weights, perhaps with bounds of q, k, v."""
    eps = nn.layer_eps(config)
    stack.llama(
        g,
        config,
        nn.embeddings(g, config),
        rotation=ropes.plain_rope(config, "norm"),
        norm=lambda x, name: g.layer_norm(x, "", "", eps=eps, name=name),
    )
