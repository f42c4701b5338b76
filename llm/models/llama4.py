"""Llama 4: "llama4". Source: Meta, "The Llama 4 herd", 2025 (meta-llama/llama-models)."""

import dataclasses

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack

CHUNK = 8192
PERIOD = 4  # three layers with rope that see their chunk, then one without rope that sees all
TEMPERATURE = 0.1
EXPERTS_MAVERICK = 128  # this model has no norms on heads


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: chunks on most layers, one expert whose input is weighted beside another."""
    meta = config.metadata
    is_chunked = meta.get("attention.sliding_window", int, CHUNK) > 0
    config = dataclasses.replace(config, sliding_window=CHUNK if is_chunked else 0)
    windows, whole = attn.windows_of(config, PERIOD), ropes.rope_of(g, config, "norm")
    theta = meta.get("rope.freq_base_swa", float, config.rope_theta)
    local = ropes.rope_of(g, dataclasses.replace(config, rope_theta=theta), "norm")
    routing = dataclasses.replace(
        moe.softmax_routing(config, norm=False), gating="sigmoid_topk", weigh_input=True
    )

    def attention(x: Value, i: int) -> Value:
        q, k, v = attn.qkv(g, x, config, i)
        if (i + 1) % PERIOD or not is_chunked:
            q, k = attn.rope(g, q, k, local if windows[i] else whole, config, i)
            if config.num_experts != EXPERTS_MAVERICK:
                q = nn.bare_norm(g, q, config, f"blk.{i}.attn_q_norm", config.head_dim)
                k = nn.bare_norm(g, k, config, f"blk.{i}.attn_k_norm", config.head_dim)
        else:
            name = f"blk.{i}.attn_q_scaled"
            q = g.scale_by_position(q, slope=TEMPERATURE, length=CHUNK, offset=1, name=name)
        is_local = bool(windows[i])
        return attn.attend(g, q, k, v, config, i, window=windows[i], chunked=is_local)

    def network(x: Value, i: int) -> Value:
        if not moe.ends_period(config, i):
            return mlp.gated_mlp(g, x, config, i)
        return moe.mixture(g, x, config, i, routing)

    stack.decoder(g, config, attention, network)
