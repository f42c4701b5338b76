"""Qwen 3 with experts: "qwen3moe". Source: Yang et al., "Qwen3 Technical Report", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: Qwen 3 whose feed-forward networks are all experts."""
    rotation = ropes.rope_of(g, config, "neox")

    def attention(x: Value, i: int) -> Value:
        return attn.block(g, x, config, i, rotation, head_norms=True)

    def network(x: Value, i: int) -> Value:
        return moe.normalized_mixture(g, x, config, i)

    stack.decoder(g, config, attention, network)
