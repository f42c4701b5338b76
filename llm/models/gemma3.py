"""Gemma 3, text: "gemma3". Source: Gemma Team, "Gemma 3 Technical Report", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import RopeScaling, rotation
from jitllm.llm.models import _layers as nn

WINDOW_PERIOD = 6  # five layers with a window, then one without
LAYERS_27B = 62


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: scaled embeddings, norms around both blocks, windows on most layers."""
    windows = nn.windows_of(config, WINDOW_PERIOD)
    whole = nn.rope_of(g, config, "neox")
    local_theta = config.metadata.get("rope.freq_base_swa", float, 10000.0)
    unscaled = RopeScaling(attention_factor=config.rope_scaling.attention_factor)
    local = rotation("neox", config.rotary_dim, local_theta, unscaled)
    x = nn.embeddings(g, config)
    x = g.scale(x, config.hidden_size**0.5, name="inp_scaled")
    for i, window in enumerate(windows):
        blk = f"blk.{i}."
        h = nn.norm(g, x, config, blk + "attn_norm")
        q, k, v = nn.qkv(g, h, config, i)
        q, k = nn.head_norms(g, q, k, config, i)
        q, k = nn.turn(g, q, k, local if window else whole, config, i)
        h = nn.attend(g, q, k, v, config, i, scale=_attention_scale(config), window=window)
        h = nn.norm(g, h, config, blk + "attn_post_norm", blk + "post_attention_norm")
        x = g.add(x, h, name=blk + "ffn_inp")

        h = nn.norm(g, x, config, blk + "ffn_norm")
        h = nn.gated_mlp(g, h, config, i, act="gelu")
        h = nn.norm(g, h, config, blk + "ffn_post_norm", blk + "post_ffw_norm")
        x = g.add(x, h, name=blk + "l_out")
    _logits(g, x, config)


def _attention_scale(config: ModelConfig) -> float:
    """1 / sqrt(head_dim); the 27B model alone takes the size of a share of the hidden columns."""
    if config.num_hidden_layers == LAYERS_27B:
        return float((config.hidden_size // config.num_attention_heads[0]) ** -0.5)
    return float(config.head_dim**-0.5)


def _logits(g: GraphBuilder, x: Value, config: ModelConfig) -> None:
    cap = config.metadata.get("final_logit_softcapping", float, 0.0)
    if cap:
        y = nn.logits(g, x, config, name="output.uncapped")
        g.soft_cap(y, cap, name="output")
    else:
        nn.logits(g, x, config)
