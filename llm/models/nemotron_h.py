"""Nemotron H, layers of Mamba-2, attention or a network alone: "nemotron_h".

Source: NVIDIA, "Nemotron-H", 2025; with experts: "Nemotron 3", 2025.
"""

from dataclasses import replace

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _moe as moe
from jitllm.llm.models._mamba import mamba2, single_blocks
from jitllm.llm.models._mlp import Unit


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a layer is one block; its sizes say which."""

    def block(x: Value, i: int) -> Value:
        if config.intermediate_size[i]:
            return network(g, x, config, i)
        if config.num_key_value_heads[i]:
            q, k, v = attn.qkv(g, x, config, i)
            return attn.attend(g, q, k, v, config, i, bias=True)
        return mamba2(g, x, config, i)

    single_blocks(g, config, block)


def network(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """A network of two matrices and the square of a ReLU, or experts made so: [rows, n]."""
    blk = f"blk.{i}."
    if not g.has(blk + "ffn_gate_inp.weight"):
        return _plain(g, x, config, f"{blk}ffn_", "", config.intermediate_size[i], blk + "ffn_out")
    n_shared = config.metadata.get("expert_shared_feed_forward_length", int, 0)
    shared = _plain(g, x, config, f"{blk}ffn_", "_shexp", n_shared, blk + "ffn_shexp")
    return g.add(_experts(g, x, config, i), shared, name=blk + "ffn_out")


def _plain(
    g: GraphBuilder, x: Value, config: ModelConfig, prefix: str, suffix: str, n_ff: int, name: str
) -> Value:
    """down(relu(up(x))^2); the scale of a matrix multiplies its bias too."""

    def project(y: Value, part: str, width: int, as_name: str) -> Value:
        tensor = f"{prefix}{part}{suffix}"
        bias, has_scale = g.optional(f"{tensor}.bias"), g.has(f"{tensor}.scale")
        step = f"{as_name}.matmul" if has_scale else as_name
        y = g.matmul(y, f"{tensor}.weight", width=width, bias=bias, name=step)
        if not has_scale:
            return y
        return g.scale(y, float(g.values(f"{tensor}.scale", (1,))[0]), name=as_name)

    h = project(x, "up", n_ff, f"{prefix}up{suffix}")
    h = g.activation(h, act="relu_squared", name=f"{prefix}act{suffix}")
    return project(h, "down", config.hidden_size, name)


def _experts(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """Experts chosen by sigmoids of the router, which may work on fewer columns: [rows, n]."""
    blk, meta = f"blk.{i}.", config.metadata
    logits = moe.router(g, x, config, i)
    if g.has(blk + "ffn_latent_down.weight"):
        x = g.matmul(x, blk + "ffn_latent_down.weight", name=blk + "ffn_latent_down")
    k = meta.per_layer("expert_used_count", int, config.num_hidden_layers)[i]
    routing = replace(moe.routing_of(g, config, i, "sigmoid"), k=k, gating="sigmoid")
    y = moe.routed(
        g, x, config, i, routing, unit=Unit("relu_squared"), scale=True, logits=logits,
        name=blk + "ffn_moe_out",
    )  # fmt: skip
    if g.has(blk + "ffn_latent_up.weight"):
        weight, name = blk + "ffn_latent_up.weight", blk + "ffn_latent_up"
        y = g.matmul(y, weight, width=config.hidden_size, name=name)
    return y
