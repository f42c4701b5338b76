"""Hunyuan with experts: "hunyuan-moe". Source: Sun et al., "Hunyuan-Large", 2024."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _layers as nn
from jitllm.llm.models import _moe as moe


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms on heads after rope, experts and a shared one in every layer."""
    rotation, routing = nn.rope_of(g, config, "neox"), moe.softmax_routing(config, norm=True)

    def attention(x: Value, i: int) -> Value:
        q, k, v = nn.qkv(g, x, config, i)
        q, k = nn.turn(g, q, k, rotation, config, i)
        q, k = nn.head_norms(g, q, k, config, i)
        return nn.attend(g, q, k, v, config, i)

    nn.decoder(g, config, attention, lambda x, i: moe.mixture(g, x, config, i, routing))
