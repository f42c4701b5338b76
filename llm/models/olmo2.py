"""OLMo 2 and 3: "olmo2". Source: Team OLMo, "2 OLMo 2 Furious", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import rotation
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn

WINDOW_PERIOD = 4  # OLMo 3: three layers with a window, then one without


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms behind both blocks and of q and k; windows in OLMo 3, not stretched."""
    whole = dense.plain_rope(config, "neox")
    local = rotation("neox", config.rotary_dim, config.rope_theta)
    x = nn.embeddings(g, config)
    for i, window in enumerate(nn.windows_of(config, WINDOW_PERIOD)):
        blk = f"blk.{i}."
        q, k, v = nn.qkv(g, x, config, i)
        q = nn.norm(g, q, config, blk + "attn_q_norm")
        k = nn.norm(g, k, config, blk + "attn_k_norm")
        q, k = nn.turn(g, q, k, local if window else whole, config, i)
        h = dense.attend(g, (q, k, v), config, i, window=window)
        h = nn.norm(g, h, config, blk + "attn_post_norm", blk + "post_attention_norm")
        x = g.add(x, h, name=blk + "ffn_inp")

        h = nn.gated_mlp(g, x, config, i)
        h = nn.norm(g, h, config, blk + "ffn_post_norm", blk + "post_ffw_norm")
        x = g.add(x, h, name=blk + "l_out")
    nn.logits(g, x, config)
