"""OLMo 1: "olmo". Source: Groeneveld et al., "OLMo", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama whose layer norms have no weights, perhaps with bounds of q, k, v."""
    eps = dense.layer_eps(config)
    dense.llama(
        g,
        config,
        nn.embeddings(g, config),
        rotation=dense.plain_rope(config, "norm"),
        norm=lambda x, name: g.layer_norm(x, "", "", eps=eps, name=name),
    )
