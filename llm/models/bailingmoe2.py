"""Ling 2: "bailingmoe2". Source: Ling Team, "Every Activation Boosted", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms on heads, experts in groups chosen with a bias, leading dense layers."""
    rotation = ropes.rope_of(g, config, "neox")

    def network(x: Value, i: int) -> Value:
        return moe.feed_forward(g, x, config, i, default_gating="")

    def attention(x: Value, i: int) -> Value:
        return attn.block(g, x, config, i, rotation, head_norms=True)

    stack.decoder(g, config, attention, network)
