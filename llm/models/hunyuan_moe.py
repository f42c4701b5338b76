"""Hunyuan with experts: "hunyuan-moe". Source: Sun et al., "Hunyuan-Large", 2024."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms on heads after rope, experts and a shared one in every layer."""
    rotation, routing = ropes.rope_of(g, config, "neox"), moe.softmax_routing(config, norm=True)

    def attention(x: Value, i: int) -> Value:
        q, k, v = attn.qkv(g, x, config, i)
        q, k = attn.rope(g, q, k, rotation, config, i)
        q, k = attn.head_rms_norms(g, q, k, config, i)
        return attn.attend(g, q, k, v, config, i)

    stack.decoder(g, config, attention, lambda x, i: moe.mixture(g, x, config, i, routing))
