"""RWKV-6, "Finch": "rwkv6". Source: Peng et al., "Eagle and Finch", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _rwkv as rwkv
from jitllm.llm.models._rwkv6 import time_mix


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: layer norms around time mixing and channel mixing."""
    rwkv.layers(g, config, lambda x, i: time_mix(g, x, config, i))
