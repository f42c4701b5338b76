"""GLM 5 to 5.2: "glm-dsa". Source: Zhipu AI, "GLM-5", 2026."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _dsa

SHARING_CONTEXT = 1048576  # GLM 5.2 and later, where files may not say which layers have an index


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: DeepSeek 3.2 in which layers may share the choice of an earlier layer."""
    n, key = config.num_hidden_layers, "attention.indexer.types"
    if f"{config.architecture}.{key}" in config.metadata.values:
        is_full = config.metadata.per_layer(key, bool, n)
    elif config.max_position_embeddings < SHARING_CONTEXT:
        is_full = (True,) * n
    else:
        is_full = tuple(i < 2 or i % 4 == 2 for i in range(n))
    _dsa.build(g, config, "norm", is_full, "sigmoid")


def build_mtp(g: GraphBuilder, config: ModelConfig, block: int) -> None:
    """Add the nodes of block `block` that predicts further tokens."""
    _dsa.build_mtp(g, config, block, "sigmoid")
