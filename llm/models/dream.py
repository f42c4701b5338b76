"""Dream, which writes text by diffusion: "dream". Source: Ye et al., "Dream 7B", 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Qwen 2 whose tokens all see each other; nothing is remembered."""
    stack.llama(
        g,
        config,
        nn.embeddings(g, config),
        rotation=ropes.plain_rope(config, "neox"),
        attention_bias=True,
        causal=False,
        cache=False,
    )
