"""Spark 2.5: "spark2_5". Source: iFLYTEK, "Spark 2.5", 2026."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: windows by a flag for each layer, a gate for each head, GELU."""
    whole, local = ropes.rope_of(g, config, "neox"), ropes.window_rotation(config, "neox")
    x = nn.embeddings(g, config)
    for i, window in enumerate(attn.windows_of(config, 0)):
        blk = f"blk.{i}."
        normed = nn.rms_norm(g, x, config, blk + "attn_norm")
        q, k, v = attn.qkv(g, normed, config, i)
        q, k = attn.rope(g, q, k, local if window else whole, config, i)
        z = attn.attention(g, q, k, v, config, i, window=window)
        n_heads = config.num_attention_heads[i]
        h = attn.gated_output(g, z, normed, config, i, width=n_heads)
        x = g.add(x, h, name=blk + "ffn_inp")

        h = nn.rms_norm(g, x, config, blk + "ffn_norm")
        h = mlp.gated_mlp(g, h, config, i, act="gelu")
        x = g.add(x, h, name=blk + "l_out")
    lm_head.logits(g, x, config)
