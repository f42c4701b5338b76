"""PLaMo 3: "plamo3". Source: Preferred Networks, "PLaMo 3 NICT", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes

WINDOW_PERIOD = 8  # seven layers with a window, then one without
LOCAL_THETA = 10000.0


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms around both blocks and on heads, windows on most layers."""
    whole = ropes.rope_of(g, config, "neox")
    local = ropes.window_rotation(config, "neox", theta=LOCAL_THETA, scaled=False)
    x = nn.embeddings(g, config)
    for i, window in enumerate(attn.windows_of(config, WINDOW_PERIOD)):
        blk = f"blk.{i}."
        h = nn.rms_norm(g, x, config, blk + "attn_norm")
        q, k, v = attn.fused_qkv(g, h, config, i)
        q, k = attn.head_rms_norms(g, q, k, config, i)
        q, k = attn.rope(g, q, k, local if window else whole, config, i)
        h = attn.attend(g, q, k, v, config, i, window=window)
        h = _post_norm(g, h, config, blk + "attn_post_norm", blk + "post_attention_norm")
        x = g.add(x, h, name=blk + "ffn_inp")

        h = nn.rms_norm(g, x, config, blk + "ffn_norm")
        h = mlp.fused_mlp(g, h, config, i)
        h = _post_norm(g, h, config, blk + "ffn_post_norm", blk + "post_ffw_norm")
        x = g.add(x, h, name=blk + "l_out")
    lm_head.logits(g, x, config)


def _post_norm(g: GraphBuilder, x: Value, config: ModelConfig, name: str, tensor: str) -> Value:
    """RMS norm whose tensor's name has no ".weight" in most files."""
    weight = tensor if g.has(tensor) else f"{tensor}.weight"
    return g.rms_norm(x, weight, eps=config.rms_norm_eps, name=name)
