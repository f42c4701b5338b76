"""Muse Glimmer: "muse-glimmer". Source: the architecture as llama.cpp runs it, 2026."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes

WINDOW_PERIOD = 4  # three layers with a window and rope, then one without both
POST_NORM_EPS = 1e-8
FINAL_CAP = 30.0


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms around both blocks and on heads, rope only beside windows, a gate."""
    meta = config.metadata
    rotation = ropes.window_rotation(config, "norm", scaled=False)
    x = nn.bare_norm(g, nn.embeddings(g, config), config, "inp_norm")
    for i, window in enumerate(attn.windows_of(config, WINDOW_PERIOD)):
        blk = f"blk.{i}."
        normed = nn.rms_norm(g, x, config, blk + "attn_norm")
        q, k, v = attn.qkv(g, normed, config, i)
        q, k = attn.head_rms_norms(g, q, k, config, i)
        if window:
            q, k = attn.rope(g, q, k, rotation, config, i)
        z = attn.attention(g, q, k, v, config, i, window=window)
        h = attn.gated_output(g, z, normed, config, i, width=z.width)
        h = _post_norm(g, h, blk + "attn_post_norm", blk + "post_attention_norm")
        x = g.add(x, h, name=blk + "ffn_inp")

        h = nn.rms_norm(g, x, config, blk + "ffn_norm")
        h = mlp.gated_mlp(g, h, config, i)
        h = _post_norm(g, h, blk + "ffn_post_norm", blk + "post_ffw_norm")
        x = g.add(x, h, name=blk + "l_out")
    cap = meta.get("final_logit_softcapping", float, FINAL_CAP)
    lm_head.scaled_logits(g, x, config, meta.get("logit_scale", float), cap)


def _post_norm(g: GraphBuilder, x: Value, name: str, tensor: str) -> Value:
    return g.rms_norm(x, f"{tensor}.weight", eps=POST_NORM_EPS, name=name)
