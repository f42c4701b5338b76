"""RND1, which writes text by diffusion: "rnd1". Source: Radical Numerics, "RND1", 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn
from jitllm.llm.models import _moe as moe


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: Qwen 3 with experts, whose tokens all see each other."""
    rotation = dense.plain_rope(config, "neox")
    routing = moe.softmax_routing(config, norm=True)
    rules = {"head_norms": True, "causal": False, "cache": False}
    nn.decoder(
        g,
        config,
        lambda x, i: blocks.attend(g, x, config, i, rotation, **rules),
        lambda x, i: moe.mixture(g, x, config, i, routing),
    )
