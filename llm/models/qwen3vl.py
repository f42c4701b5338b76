"""The language model of Qwen 3 VL: "qwen3vl". Source: Bai et al., "Qwen3-VL", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: Qwen 3 with rope in sections, which for text is common rope."""
    lm_head.logits(g, layers(g, config), config)


def layers(g: GraphBuilder, config: ModelConfig) -> Value:
    """What the last layer gives: [T, n]."""
    rotation = ropes.rope_of(g, config, "neox")

    def attention(x: Value, i: int) -> Value:
        return attn.block(g, x, config, i, rotation, head_norms=True)

    def network(x: Value, i: int) -> Value:
        return mlp.gated_mlp(g, x, config, i)

    x, parts = nn.embeddings(g, config), stack.Blocks(attention, network)
    for i in range(config.num_hidden_layers):
        x = stack.layer(g, x, config, parts, i)
    return x
