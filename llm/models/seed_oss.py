"""Seed-OSS: "seed_oss". Source: ByteDance Seed, "Seed-OSS-36B", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama with biases on q, k and v; its second norm has another name."""
    rotation = ropes.rope_of(g, config, "neox")

    def attention(x: Value, i: int) -> Value:
        return attn.block(g, x, config, i, rotation)

    def network(x: Value, i: int) -> Value:
        return mlp.gated_mlp(g, x, config, i)

    stack.decoder(g, config, attention, network, ffn_norm="post_attention_norm")
