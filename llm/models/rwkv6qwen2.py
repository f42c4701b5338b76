"""QRWKV6, Qwen 2 with RWKV-6's time mixing for attention: "rwkv6qwen2". Source: Recursal, 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _rwkv as rwkv
from jitllm.llm.models._rwkv6 import gated_time_mix


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: Qwen's norms and networks, states that heads share keys and values of."""
    rwkv.qwen_layers(g, config, lambda x, i: gated_time_mix(g, x, config, i))
