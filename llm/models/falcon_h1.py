"""Falcon H1, attention and Mamba-2 side by side: "falcon-h1". Source: Zuo et al., 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import rotation
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models._mamba import mamba2


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: each layer adds what both make of the same normalized rows."""
    turns = rotation("neox", config.rotary_dim, config.rope_theta, config.rope_scaling)
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        blk = f"blk.{i}."
        h = nn.rms_norm(g, x, config, blk + "attn_norm")
        q, k, v = attn.qkv(g, h, config, i)
        q, k = attn.rope(g, q, k, turns, config, i)
        z = attn.attend(g, q, k, v, config, i)
        both = g.add(z, mamba2(g, h, config, i), name=blk + "layer_out")
        x = g.add(both, x, name=blk + "ffn_inp")

        weight = g.optional(blk + "ffn_norm.weight") or blk + "ffn_norm"
        h = g.rms_norm(x, weight, eps=config.rms_norm_eps, name=blk + "ffn_norm")
        h = mlp.gated_mlp(g, h, config, i, bias=True)
        x = g.add(x, h, name=blk + "l_out")
    lm_head.logits(g, x, config)
