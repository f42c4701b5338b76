"""RND1, which writes text by diffusion: "rnd1". Source: Radical Numerics, "RND1", 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: Qwen 3 with experts, whose tokens all see each other."""
    rotation = ropes.plain_rope(config, "neox")
    routing = moe.softmax_routing(config, norm=True)
    rules = {"head_norms": True, "causal": False, "cache": False}
    stack.decoder(
        g,
        config,
        lambda x, i: attn.block(g, x, config, i, rotation, **rules),
        lambda x, i: moe.mixture(g, x, config, i, routing),
    )
