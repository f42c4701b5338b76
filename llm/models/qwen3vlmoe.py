"""The language model of Qwen 3 VL with experts: "qwen3vlmoe". Source: Bai et al., 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack
from jitllm.llm.models._sections import interleaved, sections_of


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: Qwen 3 with experts and rope in sections that alternate."""
    rotation = interleaved(ropes.rope_of(g, config, "neox"), sections_of(config))
    routing = moe.softmax_routing(config, norm=True)
    stack.decoder(
        g,
        config,
        lambda x, i: attn.block(g, x, config, i, rotation, head_norms=True),
        lambda x, i: moe.mixture(g, x, config, i, routing),
    )
