"""Ling 1: "bailingmoe". Source: Ling Team, "Every FLOP Counts", 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama with experts, chosen by softmax, and a shared one in every layer."""
    rotation, scale = ropes.rope_of(g, config, "norm"), config.rotary_dim**-0.5
    norm = config.metadata.get("expert_weights_norm", bool, False)
    routing = moe.softmax_routing(config, norm=norm)
    stack.decoder(
        g,
        config,
        lambda x, i: attn.block(g, x, config, i, rotation, scale=scale),
        lambda x, i: moe.mixture(g, x, config, i, routing),
    )
