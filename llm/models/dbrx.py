"""DBRX: "dbrx". Source: Databricks, "Introducing DBRX", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: layer norms, bounded q, k and v, experts in every layer."""
    rotation = ropes.plain_rope(config, "neox")
    routing = moe.softmax_routing(config, norm=True)
    eps = nn.layer_eps(config)
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        blk = f"blk.{i}."
        h = nn.layer_norm(g, x, config, blk + "attn_norm")
        h = attn.attend(g, *attn.roped_qkv(g, h, config, rotation, i), config, i)
        x = g.add(x, h, name=blk + "ffn_inp")

        name = blk + "attn_output_norm"
        h = g.layer_norm(x, f"{name}.weight", "", eps=eps, name=blk + "ffn_norm")
        h = moe.mixture(g, h, config, i, routing)
        x = g.add(x, h, name=blk + "l_out")
    lm_head.normed_logits(g, x, config, lambda x, name: nn.layer_norm(g, x, config, name))
