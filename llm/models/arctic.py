"""Snowflake Arctic: "arctic". Source: Snowflake AI Research, "Arctic", 2024."""

import dataclasses

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a dense Llama, and experts beside each of its layers."""
    rotation, routing = ropes.rope_of(g, config, "norm"), moe.softmax_routing(config, norm=True)
    n = config.num_hidden_layers
    dense = dataclasses.replace(config, intermediate_size=(config.hidden_size,) * n)
    x = nn.embeddings(g, config)
    for i in range(n):
        blk = f"blk.{i}."
        before = x
        h = nn.rms_norm(g, x, config, blk + "attn_norm")
        h = attn.block(g, h, config, i, rotation)
        x = g.add(x, h, name=blk + "ffn_inp")

        h = nn.rms_norm(g, x, config, blk + "ffn_norm")
        x = g.add(x, mlp.gated_mlp(g, h, dense, i), name=blk + "ffn_dense")
        h = nn.rms_norm(g, before, config, blk + "ffn_norm_exps")
        h = moe.routed(g, h, config, i, routing, name=blk + "ffn_moe_out")
        x = g.add(x, h, name=blk + "l_out")
    lm_head.logits(g, x, config)
