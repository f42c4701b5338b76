"""Command A with experts: "cohere2moe". Source: Cohere, "Command A", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn
from jitllm.llm.models import _moe as moe

WINDOW_PERIOD = 4  # a layer without a window, then three with


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: attention beside experts, rope only beside windows and in dense layers."""
    meta = config.metadata
    rotation, windows = nn.rope_of(g, config, "norm"), nn.leading_windows_of(config, WINDOW_PERIOD)

    def norm(x: Value, name: str) -> Value:
        if meta.get("attention.layer_norm_rms_epsilon", float, 0.0):
            return nn.norm(g, x, config, name)
        return dense.layer_norm(g, x, config, name)

    def network(x: Value, i: int) -> Value:
        if not g.has(f"blk.{i}.ffn_gate_inp.weight"):
            return nn.gated_mlp(g, x, config, i, scale=True)
        routing = moe.routing_of(g, config, i, "sigmoid")
        if not g.has(f"blk.{i}.ffn_up_shexp.weight"):
            return moe.routed(g, x, config, i, routing, scale=True)
        y = moe.routed(g, x, config, i, routing, scale=True, name=f"blk.{i}.ffn_moe_out")
        y = g.add(y, moe.shared(g, x, i, scale=True), name=f"blk.{i}.ffn_sum")
        return g.scale(y, 0.5, name=f"blk.{i}.ffn_out")

    x = nn.embeddings(g, config)
    for i in range(nn.n_layers_of(config)):
        h = norm(x, f"blk.{i}.attn_norm")
        turned = rotation if windows[i] or moe.is_dense(config, i) else None
        z = blocks.attend(g, h, config, i, turned, window=windows[i])
        x = dense.side_by_side(g, x, z, network(h, i), i)
    factor = meta.get("logit_scale", float) or 1.0
    dense.logits(g, x, config, norm, factor=factor)
