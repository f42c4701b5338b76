"""EmbeddingGemma: "gemma-embedding".

Source: Schechter Vera et al., "EmbeddingGemma: Powerful and Lightweight Text Representations",
2025.
"""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _encoder as encoder
from jitllm.llm.models import _layers as nn

WINDOW_PERIOD = 6  # five layers with a window, then one without
LOCAL_THETA = 10000.0


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Gemma 3 whose tokens all see each other, and the matrices behind it."""
    whole = dense.plain_rope(config, "neox")
    local = blocks.window_rotation(config, "neox", theta=LOCAL_THETA, scaled=False)
    x = nn.embeddings(g, config)
    x = g.scale(x, config.hidden_size**0.5, name="inp_scaled")
    for i, window in enumerate(nn.windows_of(config, WINDOW_PERIOD)):
        blk = f"blk.{i}."
        h = nn.norm(g, x, config, blk + "attn_norm")
        q, k, v = nn.qkv(g, h, config, i)
        q, k = nn.head_norms(g, q, k, config, i)
        q, k = nn.turn(g, q, k, local if window else whole, config, i)
        h = encoder.whole_attention(g, q, k, v, config, i, window=window)
        h = nn.norm(g, h, config, blk + "attn_post_norm", blk + "post_attention_norm")
        x = g.add(h, x, name=blk + "ffn_inp")
        h = nn.norm(g, x, config, blk + "ffn_norm")
        h = nn.gated_mlp(g, h, config, i, act="gelu")
        h = nn.norm(g, h, config, blk + "ffn_post_norm", blk + "post_ffw_norm")
        x = g.add(h, x, name=blk + "l_out")
    x = nn.norm(g, x, config, "output_norm")
    # these belong behind the pooling, but they are linear: before it they give the same
    for name in ("dense_2", "dense_3"):
        if g.has(f"{name}.weight"):
            x = g.matmul(x, f"{name}.weight", name=name)
    g.select_outputs(x, name="hidden_states")
