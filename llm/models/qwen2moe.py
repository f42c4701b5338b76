"""Qwen 1.5 and 2 with experts: "qwen2moe". Source: Yang et al., "Qwen2 Technical Report", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: Qwen 2 with experts, beside one that every token has a gate for."""
    rotation, routing = ropes.rope_of(g, config, "neox"), moe.softmax_routing(config, norm=False)

    stack.decoder(
        g,
        config,
        lambda x, i: attn.block(g, x, config, i, rotation),
        lambda x, i: moe.mixture(g, x, config, i, routing),
    )
