"""ModernBERT: "modern-bert".

Source: Warner et al., "Smarter, Better, Faster, Longer: A Modern Bidirectional Encoder", 2024.
"""

import numpy as np

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _encoder as encoder
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes

WINDOW_PERIOD = 3  # one layer without a window, then two with one
ACTIVATIONS = {"silu": "silu", "swish": "silu", "swiglu": "silu", "relu": "relu", "reglu": "relu"}
LOCAL_THETA = 10000.0


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms before the blocks, halves that gate each other, windows on most."""
    act = ACTIVATIONS.get(config.metadata.get("hidden_activation", str, ""), "gelu")
    whole = ropes.plain_rope(config, "neox")
    local = ropes.window_rotation(config, "neox", theta=LOCAL_THETA, scaled=False)
    x = encoder.embeddings(g, config)
    for i, window in enumerate(_windows(config)):
        blk, h = f"blk.{i}.", x
        if i or g.has(blk + "attn_norm.weight"):  # the first layer may have none
            h = g.layer_norm(
                x, blk + "attn_norm.weight", "", eps=nn.layer_eps(config), name=blk + "attn_norm"
            )
        h = encoder.attend(g, h, config, i, local if window else whole, window=window)
        x = g.add(h, x, name=blk + "ffn_inp")
        h = nn.layer_norm(g, x, config, blk + "ffn_norm")
        h = mlp.fused_mlp(g, h, config, i, act=act)
        x = g.add(h, x, name=blk + "l_out")
    x = nn.layer_norm(g, x, config, "output_norm")
    g.select_outputs(x, name="hidden_states")


def _windows(config: ModelConfig) -> tuple[int, ...]:
    """Window of each layer, 0 for none, by flags of the layers or by a period."""
    n, key = config.num_hidden_layers, "attention.sliding_window_pattern"
    if isinstance(config.metadata.values.get(f"{config.architecture}.{key}"), np.ndarray):
        flags = config.metadata.per_layer(key, bool, n)
    else:
        period = config.metadata.get(key, int, WINDOW_PERIOD)
        flags = tuple(not period or i % period != 0 for i in range(n))
    return tuple(config.sliding_window if flag else 0 for flag in flags)
