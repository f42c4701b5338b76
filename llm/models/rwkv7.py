"""RWKV-7, "Goose": "rwkv7". Source: Peng et al., "RWKV-7 Goose", 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _rwkv as rwkv
from jitllm.llm.models._rwkv7 import TimeMix


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: layer norms around time mixing and channel mixing."""
    rwkv.layers(g, config, TimeMix(g, config))
