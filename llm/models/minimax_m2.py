"""MiniMax M2: "minimax-m2". Source: MiniMax, "MiniMax-M2", 2025."""

import dataclasses

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms over all heads of q and k at once, experts chosen with a bias."""
    rotation = ropes.rope_of(g, config, "neox")

    def attention(x: Value, i: int) -> Value:
        q, k, v = attn.qkv(g, x, config, i)
        q = nn.rms_norm(g, q, config, f"blk.{i}.attn_q_norm")
        k = nn.rms_norm(g, k, config, f"blk.{i}.attn_k_norm")
        q, k = attn.rope(g, q, k, rotation, config, i)
        return attn.attend(g, q, k, v, config, i)

    def network(x: Value, i: int) -> Value:
        routing = dataclasses.replace(moe.routing_of(g, config, i), norm=True)
        return moe.mixture(g, x, config, i, routing)

    stack.decoder(g, config, attention, network)
