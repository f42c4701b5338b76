"""Phi 3, 3.5 and 4: "phi3". Source: Abdin et al., "Phi-3 Technical Report", 2024."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes.

    A sliding window in the metadata is not used: files do not say which layers have one, and the
    models were shown to work without.
    """
    rotation = ropes.long_rope_of(g, config, "neox")

    def attention(x: Value, i: int) -> Value:
        return attn.block(g, x, config, i, rotation)

    def network(x: Value, i: int) -> Value:
        return mlp.fused_mlp(g, x, config, i)

    stack.decoder(g, config, attention, network)
