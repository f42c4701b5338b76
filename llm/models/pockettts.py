"""The text side of Pocket TTS: "pockettts". Source: Kyutai, "Pocket TTS", 2026."""

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
    """Add the nodes: layer norms and a network without gate.

    The model has no output matrix: what counts is "output_norm", which its flow network reads. The
    embedding table stands in for it.
    """
    rotation = ropes.rope_of(g, config, "norm")

    def norm(x: Value, name: str) -> Value:
        return nn.biased_layer_norm(g, x, config, name)

    def attention(x: Value, i: int) -> Value:
        return attn.block(g, x, config, i, rotation)

    def network(x: Value, i: int) -> Value:
        return mlp.plain_mlp(g, x, config, i, act="gelu")

    x = stack.in_turn(g, nn.embeddings(g, config), config, norm, attention, network)
    lm_head.normed_logits(g, x, config, norm)
