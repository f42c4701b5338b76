"""Granite 4, Mamba-2 with some layers of attention: "granitehybrid". Source: IBM, 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import Rotation
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _granite
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models._mamba import mamba2


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: Granite's factors around both kinds of layers."""
    meta, rotation = config.metadata, None
    if meta.get("rope.scaling.finetuned", bool, True):  # here it says whether there is rope
        rotation = ropes.any_rope_of(g, config, "norm")
    branch = meta.get("residual_scale", float, 0.0)
    x = nn.embeddings(g, config)
    x = nn.scaled(g, x, meta.get("embedding_scale", float, 0.0), "inp_scaled")
    for i in range(config.num_hidden_layers):
        blk = f"blk.{i}."
        h = nn.rms_norm(g, x, config, blk + "attn_norm")
        if config.num_key_value_heads[i]:
            h = _attention(g, h, rotation, config, i)
        else:
            h = mamba2(g, h, config, i)
        h = nn.scaled(g, h, branch, blk + "attn_out_scaled")
        x = g.add(x, h, name=blk + "ffn_inp")

        h = _granite.network(g, nn.rms_norm(g, x, config, blk + "ffn_norm"), config, i)
        h = nn.scaled(g, h, branch, blk + "ffn_out_scaled")
        x = g.add(x, h, name=blk + "l_out")
    lm_head.scaled_logits(g, x, config, 1 / (meta.get("logit_scale", float, 0.0) or 1.0))


def _attention(
    g: GraphBuilder, x: Value, rotation: Rotation | None, config: ModelConfig, i: int
) -> Value:
    q, k, v = attn.qkv(g, x, config, i)
    if rotation:
        q, k = attn.rope(g, q, k, rotation, config, i)
    scale = config.metadata.get("attention.scale", float, 0.0)
    return attn.attend(g, q, k, v, config, i, scale=scale or None, bias=True)
