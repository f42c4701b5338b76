"""EXAONE 4: "exaone4". Source: LG AI Research, "EXAONE 4.0", 2025."""

from dataclasses import replace

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn

LAYERS_32B = 64
WINDOW = 4096  # of the 32B model, where the file does not say
WINDOW_PERIOD = 4  # three layers with a window and rope, then one with neither


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms behind both blocks and of heads; windows in the 32B model only."""
    n_layers = nn.n_layers_of(config)
    has_windows = n_layers == LAYERS_32B
    config = replace(config, sliding_window=config.sliding_window or WINDOW)
    windows = nn.windows_of(config, WINDOW_PERIOD) if has_windows else (0,) * n_layers
    rotation = dense.rope(g, config, "neox")
    x = nn.embeddings(g, config)
    for i, window in enumerate(windows[:n_layers]):
        blk = f"blk.{i}."
        q, k, v = nn.qkv(g, x, config, i)
        q, k = nn.head_norms(g, q, k, config, i)
        if window or not has_windows:
            q, k = nn.turn(g, q, k, rotation, config, i)
        h = dense.attend(g, (q, k, v), config, i, window=window)
        h = nn.norm(g, h, config, blk + "attn_post_norm", blk + "post_attention_norm")
        x = g.add(x, h, name=blk + "ffn_inp")

        h = nn.gated_mlp(g, x, config, i)
        h = nn.norm(g, h, config, blk + "ffn_post_norm", blk + "post_ffw_norm")
        x = g.add(x, h, name=blk + "l_out")
    nn.logits(g, x, config)
