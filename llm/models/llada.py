"""LLaDA, which writes text by diffusion: "llada".

Source: Nie et al., "Large Language Diffusion Models", 2025.
"""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama whose tokens all see each other; nothing is remembered."""
    stack.llama(
        g,
        config,
        nn.embeddings(g, config),
        rotation=ropes.plain_rope(config, "norm"),
        causal=False,
        cache=False,
    )
