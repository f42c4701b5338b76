"""ERNIE 4.5, dense: "ernie4_5". Source: Baidu, "ERNIE 4.5 Technical Report", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama."""
    rotation = ropes.rope_of(g, config, "norm")

    def attention(x: Value, i: int) -> Value:
        return attn.block(g, x, config, i, rotation)

    def network(x: Value, i: int) -> Value:
        return mlp.gated_mlp(g, x, config, i)

    stack.decoder(g, config, attention, network)
