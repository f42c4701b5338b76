"""openPangu Embedded: "pangu-embedded". Source: Huawei, "Pangu Embedded", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama with biases in the attention; no factors change its rope."""
    rotation = ropes.plain_rope(config, "neox")

    def attention(x: Value, i: int) -> Value:
        return attn.block(g, x, config, i, rotation, bias=True)

    def network(x: Value, i: int) -> Value:
        return mlp.gated_mlp(g, x, config, i)

    stack.decoder(g, config, attention, network)
