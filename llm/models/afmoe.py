"""Arcee's Trinity: "afmoe". Source: Arcee AI, "Trinity", 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn
from jitllm.llm.models import _moe as moe

WINDOW_PERIOD = 4  # three layers with a window, then one without
NO_ROPE_EVERY = 4


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms around both blocks and on heads, gated attention, experts."""
    whole, local = dense.plain_rope(config, "neox"), blocks.window_rotation(config, "neox")
    x = g.scale(nn.embeddings(g, config), config.hidden_size**0.5, name="inp_scaled")
    for i, window in enumerate(nn.windows_of(config, WINDOW_PERIOD)):
        blk = f"blk.{i}."
        normed = nn.norm(g, x, config, blk + "attn_norm")
        q, k, v = nn.qkv(g, normed, config, i)
        q, k = nn.head_norms(g, q, k, config, i)
        if (i + 1) % NO_ROPE_EVERY:
            q, k = nn.turn(g, q, k, local if window else whole, config, i)
        z = blocks.attention(g, q, k, v, config, i, window=window)
        h = blocks.gated_attention_output(g, z, normed, config, i, width=z.width)
        h = nn.norm(g, h, config, blk + "attn_post_norm", blk + "post_attention_norm")
        x = g.add(x, h, name=blk + "ffn_inp")

        h = nn.norm(g, x, config, blk + "ffn_norm")
        h = moe.feed_forward(g, h, config, i, default_gating="sigmoid")
        h = nn.norm(g, h, config, blk + "ffn_post_norm", blk + "post_ffw_norm")
        x = g.add(x, h, name=blk + "l_out")
    nn.logits(g, x, config)
