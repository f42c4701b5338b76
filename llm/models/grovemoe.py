"""GroveMoE: "grovemoe". Source: Wu et al., "Grove MoE", 2025."""

import dataclasses
from typing import Any

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.experts import experts
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: experts, and on what they give a small one for each group of them."""
    meta, rotation = config.metadata, ropes.plain_rope(config, "neox")
    routing, scale = moe.softmax_routing(config, norm=True), meta.get("expert_group_scale", float)
    size = meta.get("experts_per_group", int)
    if size < 1 or config.num_experts % size:
        raise ModelFormatError(
            f"key 'grovemoe.experts_per_group': expected a number that divides "
            f"{config.num_experts} experts, got {size}"
        )
    k = min(routing.k, config.num_experts // size)
    small = dataclasses.replace(routing, k=k, experts_per_group=size)

    def network(x: Value, i: int) -> Value:
        blk = f"blk.{i}."
        logits = moe.router(g, x, config, i)
        name = blk + "ffn_moe_out"
        y = experts(g, x, logits, routing, **_stacks(blk, "exps"), name=name)
        name = blk + "ffn_adjugate"
        z = experts(g, y, logits, small, **_stacks(blk, "chexps"), name=name)
        z = g.scale(z, scale, name=blk + "ffn_adjugate_scaled")
        return g.add(y, z, name=blk + "ffn_out")

    def attention(x: Value, i: int) -> Value:
        return attn.block(g, x, config, i, rotation, head_norms=True)

    stack.decoder(g, config, attention, network)


def _stacks(blk: str, end: str) -> dict[str, Any]:
    return {part: f"{blk}ffn_{part}_{end}.weight" for part in ("gate", "up", "down")}
