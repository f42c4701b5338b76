"""Gemma 2: "gemma2". Source: Gemma Team, "Gemma 2: Improving Open Language Models", 2024."""

import dataclasses

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _layers as nn

WINDOW_PERIOD = 2  # a layer with a window, then one without
WINDOW = 4096
ATTENTION_CAP = 50.0
FINAL_CAP = 30.0
LAYERS_27B = 46


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: scaled embeddings, norms around both blocks, windows, capped scores."""
    meta = config.metadata
    window = meta.get("attention.sliding_window", int, WINDOW)
    config = dataclasses.replace(config, sliding_window=window)
    cap = meta.get("attn_logit_softcapping", float, ATTENTION_CAP)
    scale = _attention_scale(config)
    whole, local = nn.rope_of(g, config, "neox"), blocks.window_rotation(config, "neox")
    x = nn.embeddings(g, config)
    x = g.scale(x, config.hidden_size**0.5, name="inp_scaled")
    for i, window in enumerate(nn.windows_of(config, WINDOW_PERIOD)):
        blk = f"blk.{i}."
        h = nn.norm(g, x, config, blk + "attn_norm")
        q, k, v = nn.qkv(g, h, config, i)
        q, k = nn.turn(g, q, k, local if window else whole, config, i)
        h = blocks.attention(g, q, k, v, config, i, scale=scale, window=window, soft_cap=cap)
        h = blocks.attention_output(g, h, config, i)
        h = nn.norm(g, h, config, blk + "attn_post_norm", blk + "post_attention_norm")
        x = g.add(x, h, name=blk + "ffn_inp")

        h = nn.norm(g, x, config, blk + "ffn_norm")
        h = nn.gated_mlp(g, h, config, i, act="gelu")
        h = nn.norm(g, h, config, blk + "ffn_post_norm", blk + "post_ffw_norm")
        x = g.add(x, h, name=blk + "l_out")
    final_cap = meta.get("final_logit_softcapping", float, FINAL_CAP)
    blocks.scaled_logits(g, x, config, 1.0, final_cap)


def _attention_scale(config: ModelConfig) -> float:
    """1 / sqrt(head_dim); the 27B model alone takes the size of a share of the hidden columns."""
    if config.num_hidden_layers == LAYERS_27B:
        return float((config.hidden_size // config.num_attention_heads[0]) ** -0.5)
    return float(config.head_dim**-0.5)
