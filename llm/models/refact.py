"""Refact: "refact". Source: Refact AI, "Refact-1.6B-fim", 2023."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _stack as stack

MAX_ALIBI_BIAS = 8.0


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama with ALiBi in place of rope.

    Files with experts, of which no model is known, hold no network that the reference would use:
    it passes silu of the norm on.
    """

    def norm(x: Value, name: str) -> Value:
        return nn.rms_norm(g, x, config, name)

    def attention(x: Value, i: int) -> Value:
        heads = attn.qkv(g, x, config, i)
        return attn.attend(g, *heads, config, i, max_alibi_bias=MAX_ALIBI_BIAS)

    def network(x: Value, i: int) -> Value:
        if config.num_experts:
            return g.activation(x, act="silu", name=f"blk.{i}.ffn_out")
        return mlp.gated_mlp(g, x, config, i)

    x = stack.in_turn(g, nn.embeddings(g, config), config, norm, attention, network)
    lm_head.normed_logits(g, x, config, norm)
