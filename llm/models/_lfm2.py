"""What LFM2's models share: layers of attention or of a short convolution.

Source: Liquid AI, "LFM2 Technical Report", 2025.
"""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import rotation
from jitllm.llm.graph.words.ssm import causal_conv
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _stack as stack


def layers(
    g: GraphBuilder,
    config: ModelConfig,
    feed_forward: stack.Block,
    *,
    window: int = 0,
) -> None:
    """Add embeddings, layers and logits.

    Parameters
    ----------
    g : GraphBuilder
    config : ModelConfig
    feed_forward : callable
        (normalized rows [T, n], number of the layer) to rows [T, n].
    window : int
        Positions that attention sees, 0 for all.
    """
    turns = rotation("neox", config.rotary_dim, config.rope_theta, config.rope_scaling)

    def mixer(x: Value, i: int) -> Value:
        if not config.num_key_value_heads[i]:
            return _short_conv(g, x, config, i)
        q, k, v = attn.qkv(g, x, config, i)
        q, k = attn.head_rms_norms(g, q, k, config, i)
        q, k = attn.rope(g, q, k, turns, config, i)
        return attn.attend(g, q, k, v, config, i, window=window)

    parts, x = stack.Blocks(mixer, feed_forward), nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        x = stack.layer(g, x, config, parts, i)
    x = g.select_outputs(x, name="output_rows")
    # the files call the norm behind the last layer that of the embeddings
    tensor = "token_embd_norm" if g.has("token_embd_norm.weight") else "output_norm"
    lm_head.output(g, nn.rms_norm(g, x, config, "output_norm", tensor), config)


def _short_conv(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """c * convolution of (b * x), all three projections of the rows: [T, n]."""
    blk, n = f"blk.{i}.", config.hidden_size
    taps = config.metadata.get("shortconv.l_cache", int)
    if taps < 2:
        raise ModelFormatError(
            f"key '{config.architecture}.shortconv.l_cache': expected at least 2, got {taps}"
        )
    parts = g.matmul(x, blk + "shortconv.in_proj.weight", width=3 * n, name=blk + "shortconv_in")
    b, c, y = (
        g.columns(parts, j * n, (j + 1) * n, name=f"{blk}shortconv_{part}")
        for j, part in enumerate("bcx")
    )
    y = g.mul(b, y, name=blk + "shortconv_bx")
    y = causal_conv(g, y, blk + "shortconv.conv.weight", taps=taps, name=blk + "shortconv_conv")
    y = g.mul(c, y, name=blk + "shortconv_gated")
    return g.matmul(y, blk + "shortconv.out_proj.weight", width=n, name=blk + "shortconv_out")
