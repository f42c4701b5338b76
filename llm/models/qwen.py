"""Qwen 1: "qwen". Source: Bai et al., "Qwen Technical Report", 2023."""

from dataclasses import replace

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama; the metadata's network size counts gate and up together."""
    halves = tuple(n_ff // 2 for n_ff in config.intermediate_size)
    config = replace(config, intermediate_size=halves)
    rotation = ropes.plain_rope(config, "neox")
    stack.llama(g, config, nn.embeddings(g, config), rotation=rotation)
