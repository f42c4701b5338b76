"""Ministral 3 and the text side of Mistral 3: "mistral3"."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack
from jitllm.llm.models import llama


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama, stretched by YaRN, whose queries grow with the position."""
    rotation = ropes.any_rope_of(g, config, "norm")
    slope = config.metadata.get("attention.temperature_scale", float, 0.0)
    length = config.rope_scaling.original_max_position_embeddings

    def attention(x: Value, i: int) -> Value:
        q, k, v = attn.qkv(g, x, config, i)
        q, k = attn.rope(g, q, k, rotation, config, i)
        if slope:
            q = g.scale_by_position(q, slope=slope, length=length, name=f"blk.{i}.attn_q_scaled")
        return attn.attend(g, q, k, v, config, i, bias=True)

    def network(x: Value, i: int) -> Value:
        return llama.network(g, x, config, i)

    stack.decoder(g, config, attention, network)
