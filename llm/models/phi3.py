"""Phi 3, 3.5 and 4: "phi3". Source: Abdin et al., "Phi-3 Technical Report", 2024."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes.

    A sliding window in the metadata is not used: files do not say which layers have one, and the
    models were shown to work without.
    """
    rotation = nn.long_rope_of(g, config, "neox")

    def attention(x: Value, i: int) -> Value:
        return blocks.attend(g, x, config, i, rotation)

    def network(x: Value, i: int) -> Value:
        return blocks.fused_mlp(g, x, config, i)

    nn.decoder(g, config, attention, network)
