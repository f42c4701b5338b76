"""DBRX: "dbrx". Source: Databricks, "Introducing DBRX", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn
from jitllm.llm.models import _moe as moe


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: layer norms, bounded q, k and v, experts in every layer."""
    rotation = dense.plain_rope(config, "neox")
    routing = moe.softmax_routing(config, norm=True)
    eps = dense.layer_eps(config)
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        blk = f"blk.{i}."
        h = dense.layer_norm(g, x, config, blk + "attn_norm")
        h = nn.attend(g, *dense.turned_qkv(g, h, config, rotation, i), config, i)
        x = g.add(x, h, name=blk + "ffn_inp")

        name = blk + "attn_output_norm"
        h = g.layer_norm(x, f"{name}.weight", "", eps=eps, name=blk + "ffn_norm")
        h = moe.mixture(g, h, config, i, routing)
        x = g.add(x, h, name=blk + "l_out")
    dense.logits(g, x, config, lambda x, name: dense.layer_norm(g, x, config, name))
