"""Hunyuan 3: "hy_v3". Source: Tencent, "Hy3", 2026."""

import dataclasses

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nextn as nextn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms on heads; a layer with a router has experts, one of them shared."""
    stack.decoder(g, config, *_blocks(g, config))


def build_mtp(g: GraphBuilder, config: ModelConfig, block: int) -> None:
    """Add the nodes of block `block` that predicts further tokens."""
    nextn.head(g, config, block, _blocks(g, config))


def _blocks(g: GraphBuilder, config: ModelConfig) -> stack.Blocks:
    rotation = ropes.rope_of(g, config, "neox")

    def network(x: Value, i: int) -> Value:
        if not g.has(f"blk.{i}.ffn_gate_inp.weight"):
            return mlp.gated_mlp(g, x, config, i, scale=True)
        routing = moe.routing_of(g, config, i, "sigmoid")
        routing = dataclasses.replace(routing, bias=g.optional(f"blk.{i}.exp_probs_b"))
        return moe.mixture(g, x, config, i, routing, scale=True)

    def attention(x: Value, i: int) -> Value:
        return attn.block(g, x, config, i, rotation, head_norms=True)

    return stack.Blocks(attention, network)
