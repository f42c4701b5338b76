"""Falcon: "falcon". Source: Almazrouei et al., "The Falcon Series of Open Models", 2023."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: attention and network side by side, of one norm (7B) or two (40B)."""
    rotation = ropes.plain_rope(config, "neox")
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        blk = f"blk.{i}."
        normed = h = nn.layer_norm(g, x, config, blk + "attn_norm")
        if g.has(blk + "attn_norm_2.weight"):
            h = nn.layer_norm(g, x, config, blk + "attn_norm_2")
        heads = attn.roped_qkv(g, h, config, rotation, i)
        attention = attn.attend(g, *heads, config, i)
        network = mlp.plain_mlp(g, normed, config, i, act="gelu")
        x = stack.side_by_side(g, x, attention, network, i)
    lm_head.normed_logits(g, x, config, lambda x, name: nn.layer_norm(g, x, config, name))
