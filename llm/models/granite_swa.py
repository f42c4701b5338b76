"""Granite with sliding windows: "granite_swa". Source: IBM, "Granite", 2026."""

import numpy as np

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _granite


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: windows on some layers, sinks on all, rope where the metadata do not deny."""
    n, key = config.num_hidden_layers, "attention.rope_pattern"
    turned = (True,) * n
    if isinstance(config.metadata.values.get(f"{config.architecture}.{key}"), np.ndarray):
        turned = config.metadata.per_layer(key, bool, n)
    _granite.build(g, config, attn.windows_of(config, 0), turned, "attn_sinks.weight")
