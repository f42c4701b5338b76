"""Nemotron 3, 4 and Minitron: "nemotron". Source: NVIDIA, "Nemotron-4 15B", 2024."""

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
    """Add the nodes: layer norms, half of each head turned, squared ReLU without a gate."""
    rotation = ropes.rope_of(g, config, "neox")

    def norm(x: Value, name: str) -> Value:
        return nn.biased_layer_norm(g, x, config, name)

    def attention(x: Value, i: int) -> Value:
        return attn.block(g, x, config, i, rotation, bias=True)

    def network(x: Value, i: int) -> Value:
        return mlp.plain_mlp(g, x, config, i, act="relu", squared=True)

    x = stack.in_turn(g, nn.embeddings(g, config), config, norm, attention, network)
    lm_head.normed_logits(g, x, config, norm)
