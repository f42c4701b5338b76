"""ERNIE 4.5 with experts: "ernie4_5-moe". Source: Baidu, "ERNIE 4.5 Technical Report", 2025."""

import dataclasses

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama with experts, chosen with a bias, in every layer of a period's end."""
    rotation, routing = ropes.rope_of(g, config, "norm"), moe.softmax_routing(config, norm=True)

    def network(x: Value, i: int) -> Value:
        if moe.is_dense(config, i) or not moe.ends_period(config, i):
            return mlp.gated_mlp(g, x, config, i)
        bias = g.optional(f"blk.{i}.exp_probs_b.bias")
        return moe.mixture(g, x, config, i, dataclasses.replace(routing, bias=bias))

    stack.decoder(g, config, lambda x, i: attn.block(g, x, config, i, rotation), network)
