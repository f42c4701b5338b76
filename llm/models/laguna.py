"""Laguna: "laguna". Source: poolside, "Laguna", 2026."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import rotation
from jitllm.llm.graph.words.delta_net import gated
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack

WINDOW_PERIOD = 4  # a layer without a window, then three with


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms on heads, attention behind softplus gates, experts and a shared one."""
    meta, windows = config.metadata, attn.leading_windows_of(config, WINDOW_PERIOD)
    whole = ropes.plain_rope(config, "neox")
    n_rot = meta.get("rope.dimension_count_swa", int, config.rotary_dim)
    local = rotation("neox", n_rot, meta.get("rope.freq_base_swa", float, config.rope_theta))

    def attention(x: Value, i: int) -> Value:
        blk = f"blk.{i}."
        q, k, v = attn.qkv(g, x, config, i)
        q, k = attn.head_rms_norms(g, q, k, config, i)
        q, k = attn.rope(g, q, k, local if windows[i] else whole, config, i)
        z = attn.attention(g, q, k, v, config, i, window=windows[i])
        # a gate for each head, or for each column
        gate = g.matmul(x, blk + "attn_gate.weight", name=blk + "attn_gate")
        z = gated(g, z, gate, act="softplus", name=blk + "kqv_gated")
        return attn.output(g, z, config, i)

    def network(x: Value, i: int) -> Value:
        return moe.feed_forward(g, x, config, i, default_gating="sigmoid")

    stack.decoder(g, config, attention, network)
