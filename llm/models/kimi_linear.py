"""Kimi Linear: "kimi-linear". Source: Kimi Team, "Kimi Linear", 2025."""

from dataclasses import replace

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _kda as kda
from jitllm.llm.models import _mla as mla
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: delta attention, some layers latent attention without rope, experts."""
    sizes, is_delta = kda.Kda.from_config(config), kda.delta_layers(config)
    latent = kda.without_rope(mla.Latent.from_config(config))
    latent = replace(latent, scale=(latent.nope + latent.rope) ** -0.5)

    def attention(x: Value, i: int) -> Value:
        if is_delta[i]:
            return kda.attend(g, x, config, sizes, i)
        absorbed = replace(latent, is_absorbed=not g.has(f"blk.{i}.attn_kv_b.weight"))
        q = mla.query_latent(g, x, config, absorbed, i)
        return mla.attend(g, x, q, config, absorbed, i)

    stack.decoder(g, config, attention, lambda x, i: _feed_forward(g, x, config, i))


def _feed_forward(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    if moe.is_dense(config, i):
        return mlp.gated_mlp(g, x, config, i)
    routing = replace(moe.routing_of(g, config, i, "sigmoid"), norm=True)
    return moe.mixture(g, x, config, i, routing)
