"""Mistral Small 4: "mistral4"."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _deepseek as deepseek
from jitllm.llm.models import _mla as mla


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: DeepSeek 2 with another YaRN, whose queries may grow with the position."""
    latent = mla.Latent.from_config(config)
    deepseek.layers(
        g,
        config,
        lambda x, i: mla.attend(g, x, mla.query_latent(g, x, config, latent, i), config, latent, i),
        lambda x, i: deepseek.feed_forward(g, x, config, i),
    )
