"""Maincoder: "maincoder". Source: Maincode, "Maincoder-1B", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama whose heads of q and k are normalized after rope."""
    rotation = ropes.rope_of(g, config, "norm")

    def attention(x: Value, i: int) -> Value:
        q, k, v = attn.qkv(g, x, config, i)
        q, k = attn.rope(g, q, k, rotation, config, i)
        q, k = attn.head_rms_norms(g, q, k, config, i)
        return attn.attend(g, q, k, v, config, i)

    def network(x: Value, i: int) -> Value:
        return mlp.gated_mlp(g, x, config, i)

    stack.decoder(g, config, attention, network)
